"""AF_UNIX pairs: each end has a queue of messages that the other has sent."""

import errno
import os
import socket
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fdproof.model._failure import Blocked, failure
from fdproof.model._file import File
from fdproof.model._messages import (
    NOBODY,
    SEND_BUFFER,
    THE_END,
    Cargo,
    Message,
    Sender,
    pieces,
    record_charge,
)

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel

__all__ = ["UnixSocket"]

_READABLE, _WRITABLE, _ERROR, _HUP, _PEER_HUP = 0x41, 0x304, 0x8, 0x10, 0x2000
_ANYTHING = 0


class UnixSocket(File):
    """One end of a socketpair, of any of the three kinds."""

    settable = os.O_APPEND | os.O_ASYNC | os.O_NONBLOCK | os.O_NOATIME

    def __init__(self, kernel: "Kernel", kind: int, flags: int, creator: Sender) -> None:
        super().__init__(kernel, os.O_RDWR | flags)
        self.owner = creator.uid
        self.kind = kind
        self.creator = creator
        self.peer: UnixSocket | None = None
        self.queue: deque[Message] = deque()
        self.charged = 0
        self.error = 0
        self.hung_up = False
        self.released = False
        self.pass_credentials = self.pass_pidfd = False
        self.pass_rights = True

    @property
    def identifies(self) -> bool:
        """Whether the owner wants to know who sends."""
        return self.pass_credentials or self.pass_pidfd

    # -- sending

    def send(self, data: bytes, cargo: Cargo, *, flags: int, crowded: bool, me: Sender) -> int:
        """Send data with its cargo, of which the message takes references of its own.

        Args:
            data: the bytes.
            cargo: the files; and a sender where the caller names one.
            flags: MSG_DONTWAIT.
            crowded: whether the sender's user has too many files in flight already.
            me: the sender as the kernel would name it.

        Raises:
            OSError: as sendmsg(2).
            Blocked: there is no room, and the call would wait for it.
        """
        if self.kind == socket.SOCK_STREAM:
            if self.hung_up:
                raise failure(errno.EPIPE)
            parts = list(pieces(len(data)))
        else:
            if self.peer is None:
                raise failure(errno.ENOTCONN)
            if len(data) > SEND_BUFFER - 32:
                raise failure(errno.EMSGSIZE)
            self.check_error()
            if self.hung_up:
                raise failure(errno.EPIPE)
            parts = [(len(data), record_charge(len(data)))]
        # A call that waits changes nothing, so what has to wait for its last part waits for its first.
        before_the_last = sum(charge for _, charge in parts[:-1])
        if self.waits(flags) and self.charged + before_the_last >= SEND_BUFFER:
            raise Blocked
        sent = 0
        for length, charge in parts:
            if self.charged >= SEND_BUFFER:
                if sent:
                    break
                raise failure(errno.EAGAIN)
            if not sent:
                self.kernel.fallible("sock_alloc_send_pskb", errno.ENOBUFS)
            message = Message(self, data[sent : sent + length], charge, me.uid)
            self._queue(message, cargo, crowded, me)
            cargo = cargo._replace(files=())
            sent += length
        return sent

    def _queue(self, message: Message, cargo: Cargo, crowded: bool, me: Sender) -> None:
        """Put one message into the peer's queue."""
        peer = self.peer
        assert peer is not None
        if cargo.files and crowded:
            raise failure(errno.ETOOMANYREFS)
        if peer.released:
            # KERNEL: what the peer had sent is lost now, unread.
            self.peer = None
            for lost in self.empty():
                lost.drop()
            raise failure(errno.ECONNREFUSED)
        if cargo.files and not peer.pass_rights:
            raise failure(errno.EPERM)
        message.sender = cargo.sender
        if message.sender.process is None and (self.identifies or peer.identifies):
            message.sender = me
        if cargo.files:
            message.load(
                cargo.files, [file for file in cargo.files if isinstance(file, UnixSocket)]
            )
            self.kernel.in_flight.depart(message, peer)
        self.charged += message.charge
        peer.queue.append(message)
        peer.wake(_READABLE)

    # -- receiving

    def receive(self, count: int, flags: int) -> tuple[bytes, int, Cargo | None]:
        """Take (with MSG_PEEK: look at) data from the queue.

        Returns:
            The data; MSG_TRUNC or 0; the cargo, whose references are the caller's, and None where not
            even a sender is told.

        Raises:
            OSError: as recvmsg(2).
            Blocked: the queue is empty, and the call would wait.
        """
        if self.kind != socket.SOCK_STREAM:
            self.check_error()
        if not self.queue:
            self.check_error()
            if self.hung_up:
                return b"", 0, THE_END if self.kind == socket.SOCK_STREAM else None
            raise Blocked if self.waits(flags) else failure(errno.EAGAIN)
        if self.kind == socket.SOCK_STREAM:
            data, cargo = self._glue(count, bool(flags & socket.MSG_PEEK))
            return data, 0, cargo
        message = self.queue[0]
        data, sender = message.data, message.sender
        files = self._files_of(message, bool(flags & socket.MSG_PEEK))
        if not flags & socket.MSG_PEEK:
            message.source.reclaim(self.queue.popleft())
        return data[:count], socket.MSG_TRUNC if count < len(data) else 0, Cargo(files, sender)

    def _glue(self, count: int, peek: bool) -> tuple[bytes, Cargo]:
        """Return the bytes of as many messages as belong together."""
        data = b""
        sender: Sender | None = None
        files: tuple[File, ...] = ()
        for message in list(self.queue):
            if sender is None:
                # KERNEL: who sent a byte only keeps messages apart where the receiver asks for it.
                sender = message.sender if self.identifies else None
            elif message.sender != sender:
                break
            chunk = message.data[: count - len(data)]
            data += chunk
            files = self._files_of(message, peek)
            if not peek:
                message.data = message.data[len(chunk) :]
                if message.data:
                    break
                message.source.reclaim(self.queue.popleft())
            # KERNEL: peeking goes on to the next message even when no byte is wanted any more, so
            # it can bring the files of a message of which it brings no data.
            if files or (not peek and len(data) == count):
                break
        return data, Cargo(files, NOBODY if sender is None else sender)

    def _files_of(self, message: Message, peek: bool) -> tuple[File, ...]:
        """Return the files of a message with references for the caller."""
        if not peek:
            self.kernel.in_flight.arrive(message)
            return message.unload()
        for file in message.files:
            file.references += 1
        return message.files

    def reclaim(self, message: Message) -> None:
        """Have back the room of a message that this socket sent."""
        self.charged -= message.charge
        if not self.released and self.writable:
            self.wake(_WRITABLE)

    # -- as a file

    def read(self, count: int) -> bytes:
        if count == 0:
            return b""
        data, _, cargo = self.receive(count, 0)
        for file in cargo.files if cargo else ():
            self.kernel.fput(file)
        return data

    def write(self, data: bytes) -> int:
        writer = self.kernel.current
        assert writer is not None
        me = writer.as_sender()
        return self.send(data, Cargo(), flags=0, crowded=False, me=me)

    @property
    def writable(self) -> bool:
        """Whether poll says that there is room: at most a quarter of it is taken."""
        return self.charged * 4 < SEND_BUFFER

    def poll(self) -> int:
        return (
            (_READABLE if self.queue or self.hung_up else 0)
            | (_WRITABLE if self.writable else 0)
            | (_HUP | _PEER_HUP if self.hung_up else 0)
            | (_ERROR if self.error else 0)
        )

    def check_error(self) -> None:
        """Raise the error that waits to be told, once."""
        if number := self.error:
            self.error = 0
            raise failure(number)

    def waits(self, flags: int) -> bool:
        """Say whether a call with these flags waits rather than fail with EAGAIN."""
        return not (self.flags & os.O_NONBLOCK or flags & socket.MSG_DONTWAIT)

    def holds(self) -> Iterator[File]:
        """Yield the files to which the queue has references."""
        for message in self.queue:
            yield from message.files

    def empty(self) -> list[Message]:
        """Take all messages out of the queue."""
        messages = list(self.queue)
        self.queue.clear()
        return messages

    def release(self) -> None:
        self.released = True
        peer = self.peer
        if peer is not None and not peer.released and self.kind != socket.SOCK_DGRAM:
            peer.hung_up = True
            # KERNEL: an empty record in front is not seen; it could be the mark of out-of-band data.
            unread = list(self.queue)
            if unread and not unread[0].data:
                unread.pop(0)
            if unread:
                peer.error = errno.ECONNRESET
            peer.wake(_ANYTHING)
        for message in self.empty():
            message.drop()
        self.kernel.in_flight.collect()
