"""The five patterns: reserve, prepare, add, receive, transaction.

They run over any :class:`Table`: this process's, a target's, the model's. A table knows how
to reserve a slot and how to receive a file; the order of the steps, and who owns what
after each, is decided here once.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

from fdproof._descriptor import Descriptor, duplicate_of
from fdproof._errors import StateError
from fdproof._flags import DescriptorFlags, descriptor_flags
from fdproof._slot import Slot as OwnSlot
from fdproof._slot import install_all

__all__ = [
    "OwnTable",
    "Reservation",
    "Slot",
    "Table",
    "Transaction",
    "add",
    "own_table",
    "prepare",
    "receive",
    "reserve",
    "transaction",
]

if TYPE_CHECKING:
    # Known to every checker without an install; the defaults make reserve() a
    # Reservation[Descriptor, Descriptor]. The interpreter needs neither.
    from typing_extensions import TypeVar as DefaultTypeVar

    F = DefaultTypeVar("F", default=Descriptor)
    D = DefaultTypeVar("D", default=Descriptor)
else:
    F = TypeVar("F")
    D = TypeVar("D")
F_contra = TypeVar("F_contra", contravariant=True)
D_co = TypeVar("D_co", covariant=True)

_CLOEXEC = DescriptorFlags.CLOEXEC


class Slot(Protocol[F_contra, D_co]):
    """A place in a table that a reservation holds."""

    @property
    def number(self) -> int | None:
        """The number; None where it is known only at publish, or no longer held."""

    def make_room(self) -> None:
        """Free what the reservation kept back for the build."""

    def install(self, file: F_contra) -> D_co:
        """Put the file in: consumes it, cannot fail for want of room, is never undone."""

    def cancel(self) -> None:
        """Give the place back; twice is quiet."""


class Table(Protocol[F, D]):
    """A descriptor table that the patterns work on.

    ``F`` is what a build makes for it; ``D`` is what a publish returns.
    """

    def reserve(self, *, at: int | None, at_least: int, flags: DescriptorFlags) -> Slot[F, D]:
        """Take a number with nothing behind it."""

    def adopt(self, built: Any) -> F:
        """Take ownership of what a build returned."""

    def discard(self, file: F) -> None:
        """Drop a file that was built and is not published."""

    def install_all(self, slots: Sequence[Slot[F, D]], files: Sequence[F]) -> list[D]:
        """Install several, after checking all; the order is the sequence's."""

    def receive(self, file: Any, *, at: int | None, at_least: int, flags: DescriptorFlags) -> D:
        """Take a reference to a file that exists already; the caller keeps its own."""


class OwnTable:
    """This process's table."""

    def reserve(
        self, *, at: int | None, at_least: int, flags: DescriptorFlags
    ) -> Slot[Descriptor, Descriptor]:
        """Hold a number with a placeholder, and a second one as room for the build."""
        return OwnSlot(at, at_least, flags is _CLOEXEC)

    def adopt(self, built: Any) -> Descriptor:
        """Own what a build returned: a Descriptor, or what ``Descriptor()`` takes."""
        return built if type(built) is Descriptor else Descriptor(built)

    def discard(self, file: Descriptor) -> None:
        """Close it."""
        file.close()

    def install_all(
        self, slots: Sequence[Slot[Descriptor, Descriptor]], files: Sequence[Descriptor]
    ) -> list[Descriptor]:
        """Install several in one compiled call."""
        return install_all(cast("Sequence[OwnSlot]", slots), files)

    def receive(
        self, file: Any, *, at: int | None, at_least: int, flags: DescriptorFlags
    ) -> Descriptor:
        """Make a second descriptor of the file."""
        if at is None:
            return duplicate_of(file, at_least, flags is not _CLOEXEC)
        slot = OwnSlot(at, at_least, flags is _CLOEXEC)
        try:
            slot.make_room()
            return slot.install(duplicate_of(file, 0, False))
        finally:
            slot.cancel()


own_table = OwnTable()
# Untyped, so that F and D come from the table that is given, and are Descriptor where none is.
_BY_DEFAULT: Any = own_table


class Reservation(Generic[F, D]):
    """A number that is held, then the file for it, then both published.

    The order is reserve, build, publish. Leaving the ``with`` block, or dropping the object,
    before the publish gives back whatever is held: the number, or the number and the file.
    What is held decides, not an error flag. A reservation belongs to one process.
    """

    __slots__ = ("_descriptor", "_file", "_slot", "_table")

    def __init__(self, table: Table[F, D], slot: Slot[F, D]) -> None:
        self._table = table
        self._slot: Slot[F, D] | None = slot
        self._file: F | None = None
        self._descriptor: D | None = None

    def _reserved(self) -> Slot[F, D]:
        if self._slot is None:
            raise StateError(
                "this reservation was published: publish happens once and is never undone"
                if self._descriptor is not None
                else "this reservation was cancelled: reserve again"
            )
        return self._slot

    @property
    def number(self) -> int | None:
        """The reserved number; None in a target's table, where publish tells it.

        Raises:
            StateError: published or cancelled already.
        """
        return self._reserved().number

    @property
    def file(self) -> F:
        """The file that was built, still owned by this reservation: set it up, do not keep it.

        Raises:
            StateError: not built yet, or published or cancelled already.
        """
        self._reserved()
        if self._file is None:
            raise StateError("nothing is built yet: call build() first")
        return self._file

    @property
    def descriptor(self) -> D:
        """What the publish returned.

        Raises:
            StateError: not published yet.
        """
        if self._descriptor is None:
            raise StateError("nothing is published: the number may not be used before publish()")
        return self._descriptor

    def build(self, factory: Callable[[], Any]) -> Self:
        """Make the file, now that its number is held.

        In this process the file has a number of its own until publish, which closes that one. So
        leave for later what belongs to a number: fcntl(2) record locks, which any close of the file
        by this process releases, and epoll registrations, which stay under the old number.

        Args:
            factory: makes and returns the file: a Descriptor, or what ``Descriptor()`` adopts.

        Returns:
            This reservation, which owns the file.

        Raises:
            StateError: built already, published or cancelled. Whatever ``factory`` raises passes
                through, and the number stays held.
        """
        slot = self._reserved()
        if self._file is not None:
            raise StateError("this reservation has its file already: publish or cancel it")
        slot.make_room()
        file = self._table.adopt(factory())
        if self._slot is not slot or self._file is not None:
            self._table.discard(file)
            raise StateError(
                "this reservation was built, published or cancelled while it was building"
            )
        self._file = file
        return self

    def publish(self) -> D:
        """Install the file under the reserved number: the point of no return.

        Returns:
            The descriptor's owner.

        Raises:
            StateError: not built yet, published or cancelled already, held by another process, or
                somebody else closed the number. The file then still belongs to this reservation.
            OSError: EBADF, RLIMIT_NOFILE was lowered below the number meanwhile; nothing has changed.

        Kernel: dup3(2) (2.6.27), over the placeholder.
        """
        slot = self._reserved()
        if self._file is None:
            raise StateError("nothing is built yet: call build() before publish()")
        self._descriptor = descriptor = slot.install(self._file)
        self._slot = self._file = None
        return descriptor

    def install(self, file: F) -> D:
        """Publish a file that was built elsewhere.

        Args:
            file: its owner. It owns nothing afterwards; on any error it still does.

        Returns:
            The descriptor's owner.

        Raises:
            StateError: as for ``publish``, or this reservation has built a file of its own.
        """
        slot = self._reserved()
        if self._file is not None:
            raise StateError(
                "this reservation has built a file of its own: publish() installs that one"
            )
        self._descriptor = descriptor = slot.install(file)
        self._slot = None
        return descriptor

    def cancel(self) -> None:
        """Give back the number, and the file if one was built.

        Quiet when cancelled before, and after the publish, which it does not undo.
        """
        slot, file = self._slot, self._file
        self._slot = self._file = None
        try:
            if file is not None:
                self._table.discard(file)
        finally:
            if slot is not None:
                slot.cancel()

    def __enter__(self) -> Self:
        self._reserved()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()


class Transaction(Generic[F, D]):
    """Several reservations, published together when the block succeeds.

    All numbers are held and all files built before the first is published; the publishing
    itself goes in the order of the reservations, because Linux installs one at a time.
    """

    __slots__ = ("_pending", "_table")

    def __init__(self, table: Table[F, D]) -> None:
        self._table = table
        self._pending: list[Reservation[F, D]] | None = None

    def reserve(
        self, *, at: int | None = None, at_least: int = 0, inheritable: bool = False
    ) -> Reservation[F, D]:
        """Reserve a number in this transaction; see :func:`fdproof.reserve`.

        Raises:
            StateError: outside the ``with`` block.
        """
        if self._pending is None:
            raise StateError("a transaction reserves inside its with block only")
        entry = reserve(at=at, at_least=at_least, inheritable=inheritable, table=self._table)
        self._pending.append(entry)
        return entry

    def prepare(
        self,
        build: Callable[[], Any],
        *,
        at: int | None = None,
        at_least: int = 0,
        inheritable: bool = False,
    ) -> Reservation[F, D]:
        """Reserve and build in this transaction; see :func:`fdproof.prepare`.

        Returns:
            The reservation, whose ``descriptor`` is there once the block has succeeded.

        Raises:
            StateError: outside the ``with`` block. Whatever ``build`` raises passes through, and the
                number is given back: a block that catches it may go on without this one.
        """
        entry = self.reserve(at=at, at_least=at_least, inheritable=inheritable)
        try:
            return entry.build(build)
        except BaseException:
            entry.cancel()
            raise

    def __enter__(self) -> Self:
        if self._pending is not None:
            raise StateError("this transaction is in use already: make a new one")
        self._pending = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pending, self._pending = self._pending or [], None
        try:
            if kind is None:
                self._publish([entry for entry in pending if entry._slot is not None])
        finally:
            for entry in reversed(pending):
                entry.cancel()

    def _publish(self, entries: list[Reservation[F, D]]) -> None:
        files = [entry.file for entry in entries]
        published = self._table.install_all([entry._reserved() for entry in entries], files)
        for entry, descriptor in zip(entries, published, strict=True):
            entry._descriptor = descriptor
            entry._slot = entry._file = None


def reserve(
    *,
    at: int | None = None,
    at_least: int = 0,
    inheritable: bool = False,
    table: Table[F, D] = _BY_DEFAULT,
) -> Reservation[F, D]:
    """Hold a number, with nothing behind it yet.

    In this process the slot is held by a placeholder on which all input and output fails with
    EBADF, and a second slot is held as room for the build, so that a full table shows here,
    where nothing is to be undone. What stays racy: between the release of that room and the
    build, another thread may take it (the build then fails with EMFILE, the number stays held);
    the placeholder is visible in /proc, and another thread could close it.

    Args:
        at: exactly this number, which must be free; ``at_least`` says nothing then.
        at_least: the lowest number wanted; the lowest free one from there is taken.
        inheritable: leave close-on-exec off when it is published.
        table: whose table; this process's by default.

    Returns:
        The reservation, which gives the number back unless it is published.

    Raises:
        OSError: EMFILE, no number is free; ENFILE; EBUSY, ``at`` is open; EINVAL, beyond
            RLIMIT_NOFILE.
        FlagError: ``inheritable`` is not a bool.
    """
    flags = _CLOEXEC if inheritable is False else descriptor_flags(inheritable)
    return Reservation(table, table.reserve(at=at, at_least=at_least, flags=flags))


def prepare(
    build: Callable[[], Any],
    *,
    at: int | None = None,
    at_least: int = 0,
    inheritable: bool = False,
    table: Table[F, D] = _BY_DEFAULT,
) -> Reservation[F, D]:
    """Reserve a number, then build the file for it; ``publish()`` installs it.

    Args:
        build: called once the number is held; makes and returns the file.
        at, at_least, inheritable, table: as for :func:`reserve`.

    Returns:
        The reservation, which owns number and file.

    Raises:
        OSError: as :func:`reserve`; nothing is held, and ``build`` did not run. Whatever ``build``
            raises passes through, and the number is given back.
    """
    reservation = reserve(at=at, at_least=at_least, inheritable=inheritable, table=table)
    try:
        return reservation.build(build)
    except BaseException:
        reservation.cancel()
        raise


def add(
    build: Callable[[], Any],
    *,
    at: int | None = None,
    at_least: int = 0,
    inheritable: bool = False,
    table: Table[F, D] = _BY_DEFAULT,
) -> D:
    """Prepare and publish in one step, where nothing that can fail comes after.

    Args:
        build: called once the number is held; makes and returns the file.
        at, at_least, inheritable, table: as for :func:`reserve`.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: as :func:`prepare`.
    """
    with prepare(build, at=at, at_least=at_least, inheritable=inheritable, table=table) as entry:
        return entry.publish()


def receive(
    file: Any,
    *,
    at: int | None = None,
    at_least: int = 0,
    inheritable: bool = False,
    table: Table[F, D] = _BY_DEFAULT,
) -> D:
    """Take a reference to a file that exists already: file first, then its number.

    For files that came from elsewhere (a socket's message, another process, a Python file
    object). Not for files whose creation has side effects: build those after the number is held.

    Args:
        file: a descriptor number or an object with ``fileno()``; it keeps its own reference.
        at, at_least, inheritable, table: as for :func:`reserve`.

    Returns:
        The new descriptor's owner.

    Raises:
        OSError: EBADF, ``file`` is not open; otherwise as :func:`reserve`.
    """
    return table.receive(file, at=at, at_least=at_least, flags=descriptor_flags(inheritable))


def transaction(
    *,
    table: Table[F, D] = _BY_DEFAULT,
) -> Transaction[F, D]:
    """Publish several descriptors together, or none.

    Yields:
        The transaction. At the end of the block everything prepared in it is published in order; if
        the block raises, or something reserved was never built, everything is given back.

    Raises:
        StateError: at the end of the block, a reservation without a file; nothing is published.
    """
    return Transaction(table)
