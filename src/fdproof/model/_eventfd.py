"""eventfd: a counter behind a descriptor."""

import errno
import os
from typing import TYPE_CHECKING

from fdproof.model._failure import Blocked, failure
from fdproof.model._file import File

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel

__all__ = ["EventFile"]

EFD_SEMAPHORE = 1
_MOST = 2**64 - 1
_READABLE, _WRITABLE, _ERROR = 0x1, 0x4, 0x8


class EventFile(File):
    """The file of eventfd2(2): what is read is the counter, what is written is added."""

    def __init__(self, kernel: "Kernel", initial: int, flags: int) -> None:
        super().__init__(kernel, os.O_RDWR | flags & os.O_NONBLOCK)
        self.count = initial
        self.semaphore = bool(flags & EFD_SEMAPHORE)

    def read(self, count: int) -> bytes:
        if count < 8:
            raise failure(errno.EINVAL)
        if self.count == 0:
            self.would_block()
        taken = 1 if self.semaphore else self.count
        self.count -= taken
        self.wake(_WRITABLE)
        return taken.to_bytes(8, "little")

    def write(self, data: bytes) -> int:
        # KERNEL: exactly eight bytes since 6.7; longer writes passed before.
        if len(data) != 8:
            raise failure(errno.EINVAL)
        added = int.from_bytes(data, "little")
        if added == _MOST:
            raise failure(errno.EINVAL)
        if self.count + added >= _MOST:
            self.would_block()
        self.count += added
        self.wake(_READABLE)
        return 8

    def poll(self) -> int:
        return (_READABLE if self.count else 0) | (_WRITABLE if self.count < _MOST - 1 else 0)

    def seek(self, offset: int, whence: int) -> int:
        return self.offset

    def would_block(self) -> None:
        """Raise what a call raises that would have to wait."""
        raise failure(errno.EAGAIN) if self.flags & os.O_NONBLOCK else Blocked
