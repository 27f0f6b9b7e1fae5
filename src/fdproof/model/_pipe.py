"""Pipes: pages that go from one end to the other."""

import errno
import os
from typing import TYPE_CHECKING, NoReturn

from fdproof.model._failure import Blocked, failure
from fdproof.model._file import READABLE, WRITABLE, File

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel

__all__ = ["Pipe", "ReadEnd", "WriteEnd"]

_PAGE, _MOST_PAGES = 4096, 16
_ERROR, _HUP = 0x8, 0x10


class _Page:
    __slots__ = ("data", "end", "packet")

    def __init__(self, data: bytes, packet: bool) -> None:
        self.data = data
        # Where the page is written on: what was read from it is not used again.
        self.end = len(data)
        self.packet = packet


class Pipe:
    """What lies between the two ends."""

    def __init__(self) -> None:
        self.pages: list[_Page] = []
        self.reader: ReadEnd | None = None
        self.writer: WriteEnd | None = None


class _End(File):
    settable = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME | os.O_ASYNC | os.O_DIRECT

    def __init__(self, kernel: "Kernel", flags: int, pipe: Pipe) -> None:
        super().__init__(kernel, flags)
        self.owner = kernel.current.uid if kernel.current is not None else 0
        self.pipe = pipe

    def would_block(self) -> NoReturn:
        """Raise what a call raises that finds no data, or no room."""
        if self.flags & os.O_NONBLOCK:
            raise failure(errno.EAGAIN)
        raise Blocked


class ReadEnd(_End):
    """The end that is read from."""

    def read(self, count: int) -> bytes:
        if not count:
            return b""
        pipe = self.pipe
        if not pipe.pages:
            if pipe.writer is None:
                return b""
            self.would_block()
        was_full = len(pipe.pages) >= _MOST_PAGES
        taken = b""
        while pipe.pages and len(taken) < count:
            page = pipe.pages[0]
            piece = page.data[: count - len(taken)]
            page.data = page.data[len(piece) :]
            taken += piece
            # KERNEL: one read brings one packet, and what does not fit of it is lost.
            if not page.data or page.packet:
                del pipe.pages[0]
            if page.packet:
                break
        if pipe.writer is not None and (was_full or len(pipe.pages) < _MOST_PAGES):
            pipe.writer.wake(WRITABLE)
        return taken

    def poll(self) -> int:
        pipe = self.pipe
        return (READABLE if pipe.pages else 0) | (_HUP if pipe.writer is None else 0)

    def release(self) -> None:
        self.pipe.reader = None
        if self.pipe.writer is not None:
            self.pipe.writer.wake(0)


class WriteEnd(_End):
    """The end that is written to. SIGPIPE is taken to be ignored."""

    def write(self, data: bytes) -> int:
        if not data:
            return 0
        pipe = self.pipe
        if pipe.reader is None:
            raise failure(errno.EPIPE)
        packet = bool(self.flags & os.O_DIRECT)
        room = (_MOST_PAGES - len(pipe.pages)) * _PAGE
        # KERNEL: the odd bytes go first, into the last page if all of them fit.
        odd = len(data) % _PAGE
        last = pipe.pages[-1] if pipe.pages else None
        merges = odd and last is not None and not last.packet and last.end + odd <= _PAGE
        if not merges:
            odd = 0
        if not room and not odd:
            self.would_block()
        if odd + room < len(data) and not self.flags & os.O_NONBLOCK:
            raise Blocked
        if odd and last is not None:
            last.data += data[:odd]
            last.end += odd
        data, rest = data[odd : odd + room], odd
        for start in range(0, len(data), _PAGE):
            pipe.pages.append(_Page(data[start : start + _PAGE], packet))
        pipe.reader.wake(READABLE)
        return rest + len(data)

    def poll(self) -> int:
        pipe = self.pipe
        room = len(pipe.pages) < _MOST_PAGES
        return (WRITABLE if room else 0) | (_ERROR if pipe.reader is None else 0)

    def release(self) -> None:
        self.pipe.writer = None
        if self.pipe.reader is not None:
            self.pipe.reader.wake(0)
