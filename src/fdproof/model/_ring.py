"""io_uring's fixed files: a second table, of files without descriptors."""

import errno
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fdproof.model._failure import failure
from fdproof.model._file import File

if TYPE_CHECKING:
    from fdproof.model._caller import Caller
    from fdproof.model._kernel import Kernel

__all__ = ["RingFile"]

MOST_ENTRIES = 32768
_MOST_FILES = 1 << 20
_SKIP = -2
NO_CLOEXEC = 1
"""IORING_FIXED_FD_NO_CLOEXEC."""


class RingFile(File):
    """The file of io_uring_setup(2), as far as its table of fixed files goes."""

    def __init__(self, kernel: "Kernel") -> None:
        super().__init__(kernel, os.O_RDWR)
        self.owner = kernel.current.uid if kernel.current is not None else 0
        # OWNERSHIP: one reference to each file; None where nothing was registered yet.
        self.files: list[File | None] | None = None

    def register(self, task: "Caller", numbers: Sequence[int]) -> None:
        """Make the table, all or nothing; -1 leaves a place empty.

        Raises:
            OSError: EBUSY, there is one; EINVAL, no numbers; EMFILE, more than the process may have
                descriptors; EBADF, a number is not open, or is a ring's.
        """
        if self.files is not None:
            raise failure(errno.EBUSY)
        if not numbers:
            raise failure(errno.EINVAL)
        if len(numbers) > min(_MOST_FILES, task.rlimit_nofile):
            raise failure(errno.EMFILE)
        self.kernel.fallible("io_sqe_files_register", errno.ENOMEM)
        self.files = []
        try:
            for number in numbers:
                self.files.append(None if number == -1 else self._registered(task, number))
        except OSError:
            self._drop_all()
            raise

    def update(self, task: "Caller", offset: int, numbers: Sequence[int]) -> int:
        """Replace files from an index on; -1 takes one out, -2 skips one.

        Returns:
            How many places were done: fewer than asked for where a later number is bad.

        Raises:
            OSError: ENXIO, there is no table; EINVAL, no numbers or beyond it; EBADF, the first is bad.
        """
        if not numbers:
            raise failure(errno.EINVAL)
        if self.files is None:
            raise failure(errno.ENXIO)
        if offset + len(numbers) > len(self.files):
            raise failure(errno.EINVAL)
        for done, number in enumerate(numbers):
            if number == _SKIP:
                continue
            old, self.files[offset + done] = self.files[offset + done], None
            if old is not None:
                self.kernel.fput(old)
            if number == -1:
                continue
            try:
                self.files[offset + done] = self._registered(task, number)
            except OSError:
                if not done:
                    raise
                return done
        return len(numbers)

    def unregister(self) -> None:
        """Drop the table and its references.

        Raises:
            OSError: ENXIO, there is none.
        """
        if self.files is None:
            raise failure(errno.ENXIO)
        self._drop_all()

    def _drop_all(self) -> None:
        files, self.files = self.files or [], None
        for file in files:
            if file is not None:
                self.kernel.fput(file)

    def fixed(self, index: int) -> File:
        """Return the file at an index; the reference stays the table's.

        Raises:
            OSError: EBADF, there is none.
        """
        files = self.files or []
        file = files[index] if 0 <= index < len(files) else None
        if file is None:
            raise failure(errno.EBADF)
        return file

    def _registered(self, task: "Caller", number: int) -> File:
        """Return the file of a number with a reference for the table."""
        file = task.fget(number)
        if isinstance(file, RingFile):
            self.kernel.fput(file)
            raise failure(errno.EBADF)
        return file

    # -- as a file

    def read(self, count: int) -> bytes:
        raise failure(errno.EINVAL)

    def write(self, data: bytes) -> int:
        raise failure(errno.EINVAL)

    def poll(self) -> int:
        return 0x104

    def holds(self) -> Iterator[File]:
        return (file for file in self.files or () if file is not None)

    def release(self) -> None:
        self._drop_all()
