"""offer: what this process gives to a successor that is to replace it."""

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from fdproof._descriptor import Descriptor
from fdproof._errors import Error, StateError
from fdproof.handover._datagram import checked_name
from fdproof.handover._place import Place
from fdproof.handover._succession import VERSION, Line, Word, gone, permitted
from fdproof.handover._take import Taken, Where, new_place
from fdproof.handover._waiting import Blocking, InLoop, Ways, finished
from fdproof.passing._deadline import Deadline
from fdproof.passing._stream import accepted, check_stream, opened
from fdproof.process import Process

__all__ = ["Offer", "offer"]

# Seconds until the next try when there is no descriptor for a successor's connection.
_AGAIN = 0.2


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


_File = int | _HasFileno
_Live = AbstractContextManager[Iterable[tuple[_File, bytes]]]


def offer(
    place: "Where | Taken",
    sockets: "Mapping[str, _File | Iterable[_File]]",
    *,
    connections: Callable[[], _Live] | None = None,
    users: Iterable[int] | None = None,
    timeout: float | None = 60.0,
    failed: Callable[[Exception], None] | None = None,
) -> "Offer":
    """Offer the sockets of a running server to its successor; see ``Offer.wait``.

    Args:
        place: where. A Taken goes on where it was taken from, or at the path where nobody was. A path
            is bound at once, with permissions 0600, and removed with the offer. The end of a connected
            Unix stream socket, which belongs to the offer from now on, is for one successor that has
            the other end.
        sockets: what listens, by name: printable ASCII without a colon. One socket or several for each
            name; any descriptor will do. They stay with the caller.
        connections: called when the successor is ready: a context manager that stops serving the live
            connections that are to go over, and gives them, each with the state that the successor
            needs. Leaving it by an exception means that they have not gone: serve them again. Leaving
            it without one, they belong to the successor: close them.
        users: the user ids that may take. None for this process's effective user and root.
        timeout: seconds that a successor has from its coming on to be ready; None is for ever.
        failed: told why a successor has not replaced this process.

    Returns:
        The Offer, for a ``with`` block.

    Raises:
        FileExistsError: there is something at the path that is no socket.
        OSError: EADDRINUSE, somebody offers there; other errors with the path. EBADF, a socket is not
            open.
        ValueError: a name, or the path, cannot be.
        StateError: the Taken is not ready.
    """
    names, files = _named(sockets)
    return Offer(place, names, files, connections, permitted(users), timeout, failed)


class Offer:
    """A running server's offer to its successor; it comes from ``offer``.

    Leaving the ``with`` block withdraws it, unless a successor has taken over.

    Attributes:
        successor: the process that has taken over, owned here; None before.
    """

    def __init__(
        self,
        place: Where | Taken,
        names: Sequence[str],
        files: Sequence[_File],
        connections: Callable[[], _Live] | None,
        users: frozenset[int],
        timeout: float | None,
        failed: Callable[[Exception], None] | None,
    ) -> None:
        self.successor: Process | None = None
        self._closed = False
        self._names = names
        self._files = files
        self._connections = connections or _none
        self._users = users
        self._timeout = timeout
        self._failed = failed
        self._waiting = threading.Lock()
        # Refuses what is no time at all.
        Deadline(timeout, "")
        self._place: Place | None = None
        self._connection: Descriptor | None = None
        if isinstance(place, Taken):
            self._place = place._leave_place()
        elif isinstance(place, str | os.PathLike):
            self._place = new_place(place)
        else:
            check_stream(place)
            self._connection = Descriptor(place)

    def wait(self, timeout: float | None = None) -> Process:
        """Wait until a successor has taken over.

        This process serves as before until then, whatever successors do that fail on the way. When
        this returns, it is the successor that serves: accept nothing more, finish what is in hand, and
        end. Several successors have their turn one after the other.

        Args:
            timeout: seconds until the first successor comes; None is for ever. One that has come is
                waited for, as long as ``offer`` allows.

        Returns:
            The successor, which this object owns.

        Raises:
            TimeoutError: none has come by then. The offer stands.
            StateError: the offer was withdrawn; or another thread or task waits.
            OSError, TruncatedError: only over a socket of its own: the successor failed, and why.
            Exception: what ``connections`` raises.
        """
        deadline = Deadline(timeout, "no successor has come")
        return finished(self._wait(Blocking(), deadline))

    async def wait_async(self) -> Process:
        """As ``wait``, in asyncio or Trio; time limits are those of AnyIO (``fail_after``).

        Cancelling it while a successor takes over makes that one fail; the offer stands.
        """
        return await self._wait(InLoop(), Deadline(None, ""))

    async def _wait(self, ways: Ways, deadline: Deadline) -> Process:
        if not self._waiting.acquire(blocking=False):
            raise StateError("somebody else waits for a successor: let one thread or task do it")
        try:
            while self.successor is None:
                if self._closed:
                    raise StateError("the offer was withdrawn")
                try:
                    await self._serve_one(ways, deadline)
                except _FailedError as failure:
                    if self._place is None:
                        raise failure.error from None
                    if self._failed is not None:
                        self._failed(failure.error)
            return self.successor
        finally:
            self._waiting.release()

    async def _serve_one(self, ways: Ways, deadline: Deadline) -> None:
        connection = await self._next(ways, deadline)
        limit = Deadline(self._timeout, "the successor was not ready")
        with _by_successor():
            line = Line(connection)
        try:
            with _by_successor():
                line.check_user(self._users)
                await self._offer(line, ways, limit)
            with self._connections() as live:
                given = list(live)
                with _by_successor():
                    await self._hand_over(line, given, ways, limit)
        except BaseException as error:
            line.decline(str(error) or type(error).__name__)
            if line.other is not None:
                line.other.close()
            raise
        self.successor = line.other
        line.close()
        if self._place is not None:
            self._place.leave()

    async def _next(self, ways: Ways, deadline: Deadline) -> Descriptor:
        place = self._place
        if place is None:
            connection, self._connection = self._connection, None
            if connection is None:
                raise StateError("the one successor that this offer was for has failed")
            return connection
        while True:
            await ways.readable(place.socket.fileno(), deadline)
            try:
                return accepted(place.socket)
            except BlockingIOError:
                pass
            except OSError as error:
                # No number is left, perhaps, and one may be soon.
                if self._failed is not None:
                    self._failed(error)
                await ways.pause(_AGAIN, deadline)

    async def _offer(self, line: Line, ways: Ways, limit: Deadline) -> None:
        await line.say(ways, limit, Word.HELLO, VERSION)
        await line.meet(ways, limit, Word.TAKE)
        place = [] if self._place is None else [self._place.socket]
        description = {"names": self._names, "place": bool(place)}
        await line.say(
            ways, limit, Word.OFFER, json.dumps(description).encode(), [*place, *self._files]
        )
        await line.hear(ways, limit, Word.READY)

    async def _hand_over(
        self, line: Line, live: Sequence[tuple[_File, bytes]], ways: Ways, limit: Deadline
    ) -> None:
        for file, state in live:
            await line.say(ways, limit, Word.LIVE, state, [file])
        await line.say(ways, limit, Word.ALL, b"%d" % len(live))
        await line.hear(ways, limit, Word.RECEIVED)
        if line.other is None or line.other.ended:
            raise gone()
        # INVARIANT: nothing waits, and so nothing fails, between this and the end of the block. It is
        # the one moment at which the successor becomes the server.
        line.say_now(Word.DONE)

    def close(self) -> None:
        """Withdraw the offer, unless it was taken: the path is removed. Twice is quiet."""
        self._closed = True
        if self._place is not None:
            self._place.close()
        if self._connection is not None:
            self._connection.close()
        if self.successor is not None:
            self.successor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.successor is not None:
            return f"<fdproof.handover.Offer taken by process {self.successor.pid}>"
        where = "over a socket" if self._place is None else repr(self._place.path)
        return f"<fdproof.handover.Offer of {', '.join(dict.fromkeys(self._names))} {where}>"


class _FailedError(Exception):
    """A successor failed, for a reason that is its own or the kernel's, and not the caller's."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _by_successor() -> Iterator[None]:
    try:
        yield
    except (OSError, Error) as error:
        raise _FailedError(error) from error


@contextmanager
def _none() -> Iterator[Iterable[tuple[_File, bytes]]]:
    yield ()


def _named(
    sockets: "Mapping[str, _File | Iterable[_File]]",
) -> tuple[list[str], list[_File]]:
    names: list[str] = []
    files: list[_File] = []
    for name, given in sockets.items():
        several: tuple[Any, ...] = (
            (given,) if isinstance(given, int) or hasattr(given, "fileno") else tuple(given)
        )
        names += [checked_name(name)] * len(several)
        files += several
    opened(files)
    return names, files
