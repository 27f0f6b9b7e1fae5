"""Files of memory, and the seals that fix what may be done to them."""

import errno
import os
from typing import TYPE_CHECKING

from fdproof.model._failure import failure
from fdproof.model._tree import OrdinaryFile, Regular

if TYPE_CHECKING:
    from fdproof.model._caller import Caller

__all__ = ["MemoryFile"]

MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, MFD_EXEC = 1, 2, 8, 16
MEMFD_FLAGS = MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL | MFD_EXEC
F_ADD_SEALS, F_GET_SEALS = 1033, 1034
SEAL, SHRINK, GROW, WRITE, FUTURE_WRITE, EXEC = 1, 2, 4, 8, 16, 32
_ALL = SEAL | SHRINK | GROW | WRITE | FUTURE_WRITE | EXEC
_O_LARGEFILE = 0o100000


class MemoryFile(OrdinaryFile):
    """The file of memfd_create(2); the only file of its memory, so the seals live here.

    Args:
        task: who makes it, and owns it.
        flags: MFD_NOEXEC_SEAL, MFD_ALLOW_SEALING.
    """

    settable = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME

    def __init__(self, task: "Caller", flags: int) -> None:
        unexecutable = flags & MFD_NOEXEC_SEAL
        inode = Regular(mode=0o666 if unexecutable else 0o777, uid=task.uid, gid=task.gid)
        super().__init__(task.kernel, os.O_RDWR | _O_LARGEFILE, inode)
        # KERNEL: without permission to seal, the seal against seals is there from the start.
        self.seals = EXEC if unexecutable else 0 if flags & MFD_ALLOW_SEALING else SEAL

    def write(self, data: bytes) -> int:
        if data and self.seals & (WRITE | FUTURE_WRITE):
            raise failure(errno.EPERM)
        size = self.inode.contents.size
        place = size if self.flags & os.O_APPEND else self.offset
        if data and self.seals & GROW and place + len(data) > size:
            raise failure(errno.EPERM)
        return super().write(data)

    def fcntl(self, command: int, argument: int) -> int:
        if command == F_GET_SEALS:
            return self.seals
        if command != F_ADD_SEALS or argument & ~_ALL:
            raise failure(errno.EINVAL)
        if self.seals & SEAL:
            raise failure(errno.EPERM)
        if argument & EXEC and self.inode.mode & 0o111:
            argument |= SHRINK | GROW | WRITE | FUTURE_WRITE
        self.seals |= argument
        return 0
