"""Calls on sockets, and the control messages that they take and give."""

import itertools
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from fdproof.model import Credentials, Pidfd, Received, Rights
from tests.model.linux.calling import Caller, nothing

__all__ = ["SocketCalls"]

SO_PEERCRED = 17
SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD = 1, 2, 4
CMSG = struct.Struct("=Qii")
MSGHDR = struct.Struct("=QI4xQQQQi4x")
PIECE = 4096


class SocketCalls(Caller):
    """The calls on sockets, as methods of `fdproof.model.Task`."""

    def socketpair(self, kind: int = socket.SOCK_STREAM) -> tuple[int, int]:
        address = self.put(bytes(8))
        return self.reading(self.pair(address), "socketpair", socket.AF_UNIX, kind, 0, address)

    def sendmsg(
        self,
        fd: int,
        data: bytes,
        control: Sequence[Rights | Credentials | Pidfd] = (),
        flags: int = 0,
    ) -> int:
        ancillary = b"".join(_padded(*_message(item)) for item in control)
        pieces = self._pieces(data)
        iov = self.put(struct.pack(f"={2 * len(pieces)}Q", *itertools.chain(*pieces)))
        where = self.put(ancillary) if ancillary else 0
        header = self.put(MSGHDR.pack(0, 0, iov, len(pieces), where, len(ancillary), 0))
        return self.system("sendmsg", fd, header, flags)

    def recvmsg(self, fd: int, count: int, control_size: int = 0, flags: int = 0) -> Received:
        data = self.put(bytes(count))
        control = self.put(bytes(control_size))
        iov = self.put(struct.pack("=QQ", data, count))
        header = self.put(
            MSGHDR.pack(0, 0, iov, 1, control if control_size else 0, control_size, 0)
        )

        def received(length: int) -> Received:
            *_, filled, answered = MSGHDR.unpack(self.taken(header, MSGHDR.size))
            messages = tuple(_messages(self.taken(control, filled)))
            return Received(self.taken(data, min(length, count)), messages, answered)

        return self.reading(received, "recvmsg", fd, header, flags)

    def setsockopt(self, fd: int, name: int, value: int) -> None:
        address = self.put(struct.pack("=i", value))
        self.reading(nothing, "setsockopt", fd, socket.SOL_SOCKET, name, address, 4)

    def getsockopt(self, fd: int, name: int) -> int | Credentials:
        credentials = name == SO_PEERCRED
        value = self.put(bytes(12))
        length = self.put(struct.pack("=i", 12 if credentials else 4))

        def option(_: int) -> int | Credentials:
            if credentials:
                return Credentials(*struct.unpack("=3i", self.taken(value, 12)))
            return int.from_bytes(self.taken(value, 4), sys.byteorder, signed=True)

        return self.reading(option, "getsockopt", fd, socket.SOL_SOCKET, name, value, length)

    def _pieces(self, data: bytes) -> list[tuple[int, int]]:
        """Where the pieces of data are; what is too long for the mailbox must be one byte repeated."""
        if len(data) <= PIECE:
            return [(self.put(data), len(data))]
        assert data == data[:1] * len(data)
        start = self.put(data[:PIECE])
        return [(start, min(PIECE, len(data) - at)) for at in range(0, len(data), PIECE)]


def _message(item: Rights | Credentials | Pidfd) -> tuple[int, bytes]:
    """A control message's type and content."""
    if isinstance(item, Rights):
        return SCM_RIGHTS, struct.pack(f"={len(item.numbers)}i", *item.numbers)
    if isinstance(item, Credentials):
        return SCM_CREDENTIALS, struct.pack("=3i", item.pid, item.uid, item.gid)
    return SCM_PIDFD, struct.pack("=i", item.number)


def _padded(kind: int, content: bytes) -> bytes:
    header = CMSG.pack(CMSG.size + len(content), socket.SOL_SOCKET, kind)
    return header + content + bytes(-len(content) % 8)


def _messages(control: bytes) -> Iterator[Rights | Credentials | Pidfd]:
    while len(control) >= CMSG.size:
        length, _, kind = CMSG.unpack_from(control)
        content = control[CMSG.size : length]
        if kind == SCM_RIGHTS:
            yield Rights(struct.unpack(f"={len(content) // 4}i", content))
        elif kind == SCM_CREDENTIALS and len(content) == 12:
            yield Credentials(*struct.unpack("=3i", content))
        elif kind == SCM_PIDFD:
            yield Pidfd(struct.unpack("=i", content)[0])
        control = control[(length + 7) & ~7 :]
