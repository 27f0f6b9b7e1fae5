"""take: what a process that is to be replaced offers to its successor, which is this one."""

import errno
import json
import os
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple, Self

from fdproof._descriptor import Descriptor
from fdproof._errors import Error, StateError
from fdproof.handover._handed import Handed
from fdproof.handover._place import Place
from fdproof.handover._succession import VERSION, Line, Word, permitted
from fdproof.handover._waiting import Blocking, InLoop, Ways, finished
from fdproof.passing import Message
from fdproof.passing._deadline import Deadline
from fdproof.passing._stream import connected
from fdproof.process import Process

__all__ = ["Connection", "Taken", "Where", "take", "take_async"]

# A path, or one end of a connection.
Where = str | os.PathLike[str] | int | Descriptor | socket.socket

# Seconds between two looks at a place that has no room.
_AGAIN = 0.05
# Seconds for a process to end whose descriptors are closed already.
_DYING = 5.0


class Connection(NamedTuple):
    """A live connection, and what the application needs to go on with it.

    Attributes:
        socket: whoever has this record closes it.
        state: as the predecessor gave it.
    """

    socket: socket.socket
    state: bytes


def take(
    place: Where, *, users: Iterable[int] | None = None, timeout: float | None = None
) -> "Taken":
    """Take what the running process of this service offers, to replace it.

    That process goes on until this one says ``ready``; if this one ends before, nothing has happened.

    Args:
        place: where it offers: a path; or the other end of the socket over which it offers, which
            belongs to the Taken from now on.
        users: the user ids from which to take. None for this process's effective user and root.
        timeout: seconds; None is for ever. Another successor may have its turn first.

    Returns:
        The Taken. If nobody offers at the path it holds nothing and is false: this is the first process.

    Raises:
        TimeoutError: the predecessor has not answered by then.
        ConnectionAbortedError: ECONNABORTED, it goes on without this process, and says why.
        ConnectionResetError: ECONNRESET, the socket's other end went away.
        PermissionError: EACCES, the path; EPERM, somebody offers who is not among ``users``.
        TruncatedError: the table of this process is full; it owns what came.
        ValueError: the path is too long, or the socket of another kind.
        OSError: with the path, as connect(2) says. EPROTO, somebody else than a predecessor speaks there.
        UnsupportedError: before Linux 6.5.
    """
    deadline = Deadline(timeout, "the predecessor has not answered")
    return finished(_take(Blocking(), place, permitted(users), deadline))


async def take_async(place: Where, *, users: Iterable[int] | None = None) -> "Taken":
    """As ``take``, in asyncio or Trio; time limits are those of AnyIO (``fail_after``)."""
    return await _take(InLoop(), place, permitted(users), Deadline(None, ""))


class Taken:
    """What was taken from the predecessor; it comes from ``take``. False if there is no predecessor.

    Leaving the ``with`` block closes what nobody has taken further. Before ``ready`` that tells the
    predecessor to go on.

    Attributes:
        sockets: the Handed, with what was offered by name. It owns them until they are taken.
        predecessor: the process, owned here; None if there is none. ``ended`` tells when it has finished.
        committed: whether this process is the one that serves now.
    """

    def __init__(self, path: str | None) -> None:
        self.sockets = Handed()
        self.predecessor: Process | None = None
        self.committed = False
        self._path = path
        self._line: Line | None = None
        # Where the predecessor listens for its successor; this process's place once it has committed.
        self._listener: socket.socket | None = None
        self._place: Place | None = None

    def _own(self, line: Line, description: bytes, offered: Message) -> None:
        """Take over what the predecessor has offered: called once, by ``take``."""
        files = list(offered.files)
        try:
            said = json.loads(description)
            names = said["names"]
            if said["place"]:
                self._listener = files.pop(0).into_socket()
            self.sockets = Handed(names, files)
        except (ValueError, LookupError, TypeError):
            offered.close()
            raise OSError(errno.EPROTO, "the predecessor's offer cannot be read") from None
        except BaseException:
            offered.close()
            raise
        self._line = line

    def ready(self, timeout: float | None = None) -> list[Connection]:
        """Tell the predecessor that this process can serve from now on, and replace it.

        Do everything that can fail before, and accept no connection before: the predecessor stops
        accepting when this returns, not earlier. Without a predecessor it returns at once.

        If the predecessor dies in the meantime, this process replaces it with what it has.

        Args:
            timeout: seconds; None is for ever.

        Returns:
            The live connections that the predecessor hands over; their sockets belong to the caller.

        Raises:
            ConnectionAbortedError: ECONNABORTED, the predecessor goes on without this process, for it
                waited too long, for instance. Do not serve.
            TimeoutError: the predecessor has not answered by then, and goes on. Do not serve.
            TruncatedError: the table of this process is full; it owns the last connection. Do not serve.
            StateError: it failed before.
            OSError: EPROTO, the predecessor says something else.
        """
        deadline = Deadline(timeout, "the predecessor has not stopped")
        return finished(self._ready(Blocking(), deadline))

    async def ready_async(self) -> list[Connection]:
        """As ``ready``, in asyncio or Trio; time limits are those of AnyIO (``fail_after``).

        If it is cancelled, ``committed`` tells whether that came too late.
        """
        return await self._ready(InLoop(), Deadline(None, ""))

    async def _ready(self, ways: Ways, deadline: Deadline) -> list[Connection]:
        line = self._line
        if line is None:
            if self.predecessor is not None and not self.committed:
                raise StateError("ready() failed, or was cancelled, before: take again")
            self.committed = True
            return []
        connections: list[Connection] = []
        answered = False
        try:
            await line.say(ways, deadline, Word.READY)
            while (said := await line.hear(ways, deadline, Word.LIVE, Word.ALL)).word is Word.LIVE:
                connections.append(_connection(said.message, said.body))
            if said.body != b"%d" % len(connections):
                raise OSError(errno.EPROTO, "the predecessor has lost count of its connections")
            answered = True
            await line.say(ways, deadline, Word.RECEIVED)
            await line.hear(ways, deadline, Word.DONE)
            self._commit()
        except ConnectionResetError:
            await self._survive(ways, connections)
        except BaseException as error:
            # After this the predecessor can say no word more, and what it has said counts.
            line.refuse_more()
            if answered and not self.committed and _is_done(line):
                self._commit()
            if not self.committed:
                self._give_up("it has failed to take over", connections)
                raise
            if not isinstance(error, TimeoutError):
                _close(connections)
                raise
        return connections

    async def _survive(self, ways: Ways, connections: list[Connection]) -> None:
        """Replace a predecessor that has died; give up if it has not."""
        assert self.predecessor is not None
        deadline = Deadline(
            _DYING, "the predecessor ended the conversation, and has not ended itself"
        )
        try:
            await ways.readable(self.predecessor.fileno(), deadline)
        except TimeoutError as error:
            self._give_up("", connections)
            raise ConnectionAbortedError(errno.ECONNABORTED, str(error)) from None
        except BaseException:
            self._give_up("", connections)
            raise
        self._commit()

    def _commit(self) -> None:
        self.committed = True
        assert self._line is not None
        self._line.close()
        self._line = None
        if self._listener is not None and self._path is not None:
            self._place = Place.inherited(self._path, self._listener)
            self._listener = None

    def _give_up(self, reason: str, connections: list[Connection]) -> None:
        _close(connections)
        line, self._line = self._line, None
        if line is not None:
            line.decline(reason)

    def _leave_place(self) -> Place:
        """Give the place away at which this process offers in its turn.

        Raises:
            StateError: it is not this process's yet, or any more.
        """
        if self.predecessor is not None and not self.committed:
            raise StateError("place: is still the predecessor's: say ready() first")
        if self._path is None:
            raise StateError("place: what was taken came over a socket of its own: offer at a path")
        place, self._place = self._place, None
        return place or new_place(self._path)

    def close(self) -> None:
        """Close what nobody has taken; before ``ready`` the predecessor goes on. Twice is quiet."""
        self._give_up("it has ended", [])
        self.sockets.close()
        if self._listener is not None:
            self._listener.close()
        if self._place is not None:
            self._place.close()
        if self.predecessor is not None:
            self.predecessor.close()

    def __bool__(self) -> bool:
        return self.predecessor is not None

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
        if self.predecessor is None:
            return "<fdproof.handover.Taken from nobody>"
        state = "committed" if self.committed else "not ready"
        return f"<fdproof.handover.Taken from process {self.predecessor.pid}, {state}>"


def new_place(path: str | os.PathLike[str]) -> Place:
    """Return a place where nobody has offered before."""
    place = Place(path, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), backlog=16)
    # A successor that goes away again must not leave this process waiting in accept(2).
    place.socket.setblocking(False)
    return place


async def _take(ways: Ways, place: Where, users: frozenset[int], deadline: Deadline) -> Taken:
    if not isinstance(place, str | os.PathLike):
        return await _taken_from(ways, Line(place), users, None, deadline)
    path = os.path.abspath(os.fspath(place))
    while (connection := await _connected(ways, path, deadline)) is not None:
        try:
            return await _taken_from(ways, Line(connection), users, path, deadline)
        except ConnectionResetError:
            # It died before it had offered: there may be nobody now, or another one.
            await ways.pause(_AGAIN, deadline)
    return Taken(path)


async def _connected(ways: Ways, path: str, deadline: Deadline) -> Descriptor | None:
    while True:
        try:
            return connected(path)
        except BlockingIOError:
            # As many as fit wait for their turn already.
            await ways.pause(_AGAIN, deadline)
        except (FileNotFoundError, ConnectionRefusedError):
            return None


async def _taken_from(
    ways: Ways, line: Line, users: frozenset[int], path: str | None, deadline: Deadline
) -> Taken:
    taken = Taken(path)
    try:
        line.check_user(users)
        hello = await line.meet(ways, deadline, Word.HELLO)
        taken.predecessor = line.other
        if hello.body != VERSION:
            raise OSError(
                errno.EPROTO,
                f"the predecessor speaks version {hello.body!r} of the handover, and this is {VERSION!r}",
            )
        await line.say(ways, deadline, Word.TAKE)
        offer = await line.hear(ways, deadline, Word.OFFER)
        taken._own(line, offer.body, offer.message)
    except BaseException:
        line.decline("it has failed to take what was offered")
        taken.close()
        raise
    return taken


def _connection(message: Message, state: bytes) -> Connection:
    try:
        (file,) = message.files
        return Connection(file.into_socket(), state)
    except BaseException:
        message.close()
        raise


def _is_done(line: Line) -> bool:
    try:
        line.heard(Word.DONE)
    except (OSError, Error):
        return False
    return True


def _close(connections: list[Connection]) -> None:
    for connection in connections:
        connection.socket.close()
