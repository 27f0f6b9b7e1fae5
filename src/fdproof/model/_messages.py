"""Messages between sockets: data, what travels with it, and what it costs while it is on its way."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from fdproof.model._file import File

if TYPE_CHECKING:
    from fdproof.model._process import Process
    from fdproof.model._unix import UnixSocket

__all__ = [
    "NOBODY",
    "SEND_BUFFER",
    "THE_END",
    "Cargo",
    "Message",
    "Sender",
    "pieces",
    "record_charge",
]

SEND_BUFFER = 212992
"""What a socket may have on its way, in the kernel's own accounting (net.core.wmem_default)."""

_PAGE = 4096
_LINEAR = 3776  # a page, less the kernel's own record at its end


class Sender(NamedTuple):
    """Who sent a message; no process where nobody had asked to know it at that moment."""

    process: "Process | None"
    pid: int
    uid: int
    gid: int


NOBODY = Sender(None, 0, 65534, 65534)


class Cargo(NamedTuple):
    """What travels with data: files, and who sent it."""

    files: tuple[File, ...] = ()
    sender: Sender = NOBODY


# KERNEL: the end of a stream comes from nobody too, who here looks like root.
THE_END = Cargo(sender=Sender(None, 0, 0, 0))


class Message:
    """Data in a queue, with its cargo."""

    __slots__ = ("charge", "data", "files", "sender", "sockets", "source", "user")

    def __init__(self, source: "UnixSocket", data: bytes, charge: int, user: int) -> None:
        self.source = source
        self.data = data
        self.charge = charge
        self.user = user
        self.sender = NOBODY
        self.files: tuple[File, ...] = ()
        self.sockets: list[UnixSocket] = []

    def load(self, files: tuple[File, ...], sockets: "list[UnixSocket]") -> None:
        """Take files in, with references of the message's own; some of them are sockets."""
        for file in files:
            file.references += 1
        self.files = files
        self.sockets = sockets

    def unload(self) -> tuple[File, ...]:
        """Give the files away, with the references."""
        files, self.files, self.sockets = self.files, (), []
        return files

    def drop(self) -> None:
        """Let go of the files: nobody will receive the message."""
        kernel = self.source.kernel
        kernel.in_flight.arrive(self)
        for file in self.unload():
            kernel.fput(file)
        self.source.reclaim(self)


def _charge(linear: int, paged: int = 0) -> int:
    """Return what the kernel accounts for a message: its record, and memory in the sizes that it comes in."""
    room = 512
    while room < linear + 320:
        room *= 2
    return 256 + room + paged


def _pages(length: int) -> int:
    """Return the length in whole pages."""
    return -(-length // _PAGE) * _PAGE


def record_charge(length: int) -> int:
    """Return the charge of a message that is kept in one piece."""
    paged = min(_pages(max(0, length - 16064)), 17 * _PAGE)
    return _charge(length - paged, paged)


def pieces(length: int) -> Iterator[tuple[int, int]]:
    """Yield length and charge of the messages that a stream makes of so many bytes."""
    while length:
        piece = min(length, _LINEAR + 8 * _PAGE)
        paged = min(piece, _pages(max(0, piece - _LINEAR)))
        yield piece, _charge(piece - paged, _pages(paged))
        length -= piece
