"""Messages as the kernel has them: sendmsg and recvmsg with bare numbers, closed by the ``with`` block."""

import contextlib
import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

SCM_PIDFD = 4
SO_PASSPIDFD = 76
SO_PEERPIDFD = 77
SO_PASSRIGHTS = 83
SO_RIGHTS_NOTRUNC = 85
MOST_FILES = 253

KINDS = {
    "stream": socket.SOCK_STREAM,
    "datagram": socket.SOCK_DGRAM,
    "seqpacket": socket.SOCK_SEQPACKET,
}
PLENTY = socket.CMSG_SPACE(4 * MOST_FILES) + 128

Ancillary = tuple[int, int, bytes]


@contextlib.contextmanager
def pair(kind: str = "stream") -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected Unix sockets, by the name of their kind in ``KINDS``."""
    first, second = socket.socketpair(socket.AF_UNIX, KINDS[kind])
    with first, second:
        yield first, second


def rights(*numbers: int) -> Ancillary:
    """A control message that carries descriptors."""
    return socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(numbers)}i", *numbers)


def credentials(pid: int, uid: int, gid: int) -> Ancillary:
    """A control message that says who sends."""
    return socket.SOL_SOCKET, socket.SCM_CREDENTIALS, struct.pack("3i", pid, uid, gid)


def send(sock: socket.socket, data: bytes, *ancillary: Ancillary, flags: int = 0) -> int:
    """sendmsg(2)."""
    return sock.sendmsg([data], ancillary, flags)


@dataclass(frozen=True)
class Received:
    """What recvmsg(2) returned."""

    data: bytes
    ancillary: Sequence[Ancillary]
    flags: int

    def _ints(self, kind: int) -> list[int]:
        return [
            number
            for level, found, data in self.ancillary
            if (level, found) == (socket.SOL_SOCKET, kind)
            for (number,) in struct.iter_unpack("i", data[: len(data) // 4 * 4])
        ]

    @property
    def numbers(self) -> list[int]:
        """The descriptors, of all control messages."""
        return self._ints(socket.SCM_RIGHTS)

    @property
    def pidfd(self) -> int | None:
        """The pidfd, or the negative errno that stands in its place; None without either."""
        return next(iter(self._ints(SCM_PIDFD)), None)

    @property
    def credentials(self) -> tuple[int, ...] | None:
        """pid, uid, gid, as far as the room went; None without them."""
        for level, kind, _ in self.ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                return tuple(self._ints(kind))
        return None

    @property
    def kinds(self) -> list[int]:
        """The types of the control messages, in their order."""
        return [kind for _, kind, _ in self.ancillary]

    @property
    def truncated(self) -> bool:
        """Whether MSG_CTRUNC says that control data was lost."""
        return bool(self.flags & socket.MSG_CTRUNC)


@contextlib.contextmanager
def received(
    sock: socket.socket, size: int = 100, room: int = PLENTY, *, flags: int = 0
) -> Iterator[Received]:
    """recvmsg(2) without waiting; leaving the block closes what arrived."""
    data, ancillary, answer, _ = sock.recvmsg(size, room, flags | socket.MSG_DONTWAIT)
    message = Received(data, ancillary, answer)
    try:
        yield message
    finally:
        for number in (*message.numbers, message.pidfd):
            if number is not None and number >= 0:
                os.close(number)


def refused(call: Callable[[], object]) -> str:
    """The errno with which the kernel refused, by its name; "" if it did not."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def empty(sock: socket.socket) -> bool:
    """Whether nothing can be read from a socket."""
    return not select.select([sock], [], [], 0)[0]


def hung_up(reader: int) -> bool:
    """Whether nobody has the other end of an empty pipe any more: no table, and no message in flight."""
    # Not poll, which takes no descriptors at all under a limit of 0.
    os.set_blocking(reader, False)
    try:
        return not os.read(reader, 1)
    except BlockingIOError:
        return False
