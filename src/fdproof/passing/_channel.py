"""Channel: messages with any number of descriptors over a stream, each received whole or not at all."""

import select
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from fdproof._creating import socketpair
from fdproof._descriptor import Descriptor
from fdproof._errors import StateError
from fdproof.passing._deadline import Deadline
from fdproof.passing._framing import Incoming, Outgoing
from fdproof.passing._message import Message
from fdproof.passing._stream import check_stream, shut_down

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Channel"]

MAX_BYTES = 16 * 1024 * 1024
MAX_FILES = 1024


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class Channel:
    """One end of a connection that carries messages of bytes and descriptors, as many as there are.

    The other end is a Channel too, in any process. A message arrives whole or not at all: if the peer
    dies in the middle of one, what had come of it is closed. Sending waits while the peer does not
    read, so nothing piles up here.

    One thread or task may send while another receives. A second sender, or receiver, is refused with
    a StateError. Close a channel when nobody waits at it.

    Args:
        sock: a connected Unix stream socket: a Descriptor or a ``socket.socket``, which own nothing any
            more when this returns, or a number that nobody owns.
        max_bytes: the most bytes that a received message may have.
        max_files: the most descriptors that a received message may have. A larger message is refused
            by its header, before anything is allocated for it.

    Raises:
        ValueError: it is another kind of socket; it stays where it was.
        OSError: EBADF, ENOTSOCK.
    """

    def __init__(
        self,
        sock: int | Descriptor | socket.socket,
        *,
        max_bytes: int = MAX_BYTES,
        max_files: int = MAX_FILES,
    ) -> None:
        for name, value in (("max_bytes", max_bytes), ("max_files", max_files)):
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}: takes a number from 0 on, not {value!r}")
        check_stream(sock)
        self._incoming = Incoming(max_bytes, max_files)
        self._sending = threading.Lock()
        self._receiving = threading.Lock()
        # Whether the end of a message is missing over there.
        self._cut_off = False
        self._socket = Descriptor(sock)

    @classmethod
    def pair(
        cls, *, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
    ) -> tuple["Channel", "Channel"]:
        """Make two connected channels; arguments are those of the class, for both.

        Raises:
            OSError: EMFILE, ENFILE.
        """
        with socketpair() as ends:
            first, second = (cls(end, max_bytes=max_bytes, max_files=max_files) for end in ends)
            return first, second

    def fileno(self) -> int:
        """Return the socket's number, which stays owned by this object.

        Readable means that a part of a message is there, or the end.

        Raises:
            ClosedError: the channel is closed.
        """
        return self._socket.fileno()

    @property
    def closed(self) -> bool:
        """True when the channel owns no socket any more."""
        return self._socket.closed

    def send(
        self,
        data: "Buffer",
        files: Iterable[int | _HasFileno] = (),
        *,
        timeout: float | None = None,
    ) -> None:
        """Send a message.

        It is in the kernel's hands when this returns, which does not say that the peer has read it. If
        this fails in the middle of a message (the time is over, an interrupt), nothing can be sent any
        more, and the peer is told by the end of the stream.

        Args:
            data: bytes-like, of any length.
            files: any number of Descriptors, numbers, objects with ``fileno()``; the caller keeps its
                own, and keeps them open until this returns.
            timeout: seconds; None is for ever.

        Raises:
            TimeoutError: the peer has not made room by then. Before the first byte nothing has
                happened.
            BrokenPipeError: EPIPE, the peer has closed its end, or takes nothing more.
            StateError: an earlier message was cut off; or somebody else is sending.
            OSError: EBADF, with the index of the descriptor that is not open; ETOOMANYREFS, too many of
                this user's descriptors are under way; EPERM, EINVAL, as for ``send``.
            ClosedError: the channel is closed, or the owner of a descriptor.
        """
        deadline = Deadline(timeout, "the peer has not made room for the message")
        with self._sends(data, files) as outgoing:
            while not outgoing.go_on(self._socket):
                deadline.wait(self.fileno(), select.POLLOUT)

    async def send_async(self, data: "Buffer", files: Iterable[int | _HasFileno] = ()) -> None:
        """As ``send``, in asyncio or Trio; time limits are those of AnyIO (``fail_after``).

        Cancelling it is as running out of time.
        """
        import anyio

        await anyio.lowlevel.checkpoint()
        with self._sends(data, files) as outgoing:
            while not outgoing.go_on(self._socket):
                await anyio.wait_writable(self.fileno())

    def receive(self, *, timeout: float | None = None) -> Message:
        """Receive a message.

        When the time is over in the middle of a message, what has come is kept, and the next call goes
        on with it.

        Args:
            timeout: seconds; None is for ever.

        Returns:
            The Message, which owns its descriptors. Credentials and process are those of its beginning,
            where the socket asks for them.

        Raises:
            EOFError: the peer has closed its end, or ended sending, after a whole message.
            TimeoutError: no message is complete by then.
            ConnectionResetError: ECONNRESET, the peer has closed its end in the middle of a message, or
                with messages from here unread.
            TruncatedError: the table of this process is full, or the kernel refused a descriptor; it
                owns what came of the message.
            StateError: a message was lost before, by one of these errors or an interrupt; or somebody
                else is receiving.
            OSError: EMSGSIZE, the message is larger than this end takes; EPROTO, the peer does not
                speak as a Channel does. Nothing of it is left.
            ClosedError: the channel is closed.
        """
        deadline = Deadline(timeout, "no message has come")
        with self._turn(self._receiving, "receives"):
            while (message := self._incoming.go_on(self._socket)) is None:
                deadline.wait(self.fileno(), select.POLLIN)
            return message

    async def receive_async(self) -> Message:
        """As ``receive``, in asyncio or Trio; time limits are those of AnyIO (``fail_after``).

        Cancelling it is as running out of time.
        """
        import anyio

        await anyio.lowlevel.checkpoint()
        with self._turn(self._receiving, "receives"):
            while (message := self._incoming.go_on(self._socket)) is None:
                await anyio.wait_readable(self.fileno())
            return message

    def end_sending(self) -> None:
        """Send nothing more: the peer receives what has gone, then EOFError. Receiving goes on.

        It holds for everybody who has this end of the connection.
        """
        shut_down(self._socket, socket.SHUT_WR)

    def end_receiving(self) -> None:
        """Take nothing more: the peer's next send is a BrokenPipeError. Sending goes on.

        What has come already can still be received. It holds for everybody who has this end of the
        connection.
        """
        shut_down(self._socket, socket.SHUT_RD)

    def close(self) -> None:
        """Close this end, and what has come of an unfinished message; twice is quiet.

        The peer receives what was sent.
        """
        try:
            self._incoming.close()
        finally:
            self._socket.close()

    @contextmanager
    def _sends(self, data: "Buffer", files: Iterable[int | _HasFileno]) -> Iterator[Outgoing]:
        with self._turn(self._sending, "sends"):
            if self._cut_off:
                raise StateError("nothing can be sent any more, because a message was cut off")
            outgoing = Outgoing(data, files)
            try:
                yield outgoing
            finally:
                if outgoing.half:
                    self._cut_off = True
                    self.end_sending()

    @contextmanager
    def _turn(self, lock: threading.Lock, what: str) -> Iterator[None]:
        self._socket.fileno()
        if not lock.acquire(blocking=False):
            raise StateError(f"somebody else {what} at this channel: let one thread or task do it")
        try:
            yield
        finally:
            lock.release()

    def __enter__(self) -> Self:
        self._socket.fileno()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fdproof.passing.Channel {'closed' if self.closed else self.fileno()}>"
