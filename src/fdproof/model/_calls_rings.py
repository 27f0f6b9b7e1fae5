"""The calls on io_uring's fixed files."""

import errno
import os
from collections.abc import Sequence

from fdproof.model._caller import Caller, system_call
from fdproof.model._failure import failure
from fdproof.model._ring import MOST_ENTRIES, NO_CLOEXEC, RingFile

__all__ = ["RingCalls"]


class RingCalls(Caller):
    """io_uring_setup, and what registers and installs fixed files."""

    @system_call
    def io_uring_setup(self, entries: int) -> int:
        """Make a ring.

        Returns:
            Its number, always close-on-exec.

        Raises:
            OSError: EINVAL, no entries or more than 32768; EMFILE, ENFILE.

        Kernel:
            5.1, io_uring_setup(2).
        """
        if not 0 < entries <= MOST_ENTRIES:
            raise failure(errno.EINVAL)
        return self.publish(lambda: RingFile(self.kernel), os.O_CLOEXEC)

    @system_call
    def io_uring_register_files(self, ring: int, numbers: Sequence[int]) -> None:
        """Give the ring files of its own, at indices from 0; -1 leaves one empty.

        Raises:
            OSError: EBADF, the ring, or one of the numbers (a ring's is as bad); EOPNOTSUPP, no ring;
                EBUSY, it has files already; EINVAL, no numbers; EMFILE, more than the soft limit.

        Kernel:
            io_uring_register(2), IORING_REGISTER_FILES.
        """
        found = self._registering(ring)
        self.operate(found, lambda: found.register(self, numbers))

    @system_call
    def io_uring_update(self, ring: int, offset: int, numbers: Sequence[int]) -> int:
        """Replace files of the ring from an index on; -1 takes one out, -2 leaves one alone.

        Returns:
            How many indices were done. A file that a bad number should have replaced is gone.

        Raises:
            OSError: EBADF, EOPNOTSUPP; ENXIO, the ring has no files; EINVAL, beyond them, or no
                numbers; EBADF, the first number is bad.

        Kernel:
            io_uring_register(2), IORING_REGISTER_FILES_UPDATE.
        """
        found = self._registering(ring)
        return self.operate(found, lambda: found.update(self, offset, numbers))

    @system_call
    def io_uring_unregister_files(self, ring: int) -> None:
        """Take all files from the ring.

        Raises:
            OSError: EBADF, EOPNOTSUPP; ENXIO, it has none; EINVAL, the number is -1.

        Kernel:
            io_uring_register(2), IORING_UNREGISTER_FILES.
        """
        found = self._registering(ring)
        self.operate(found, found.unregister)

    @system_call
    def io_uring_install(self, ring: int, index: int, flags: int = 0) -> int:
        """Give a fixed file a number in the table of the task.

        Args:
            ring: the ring.
            index: of the fixed file.
            flags: IORING_FIXED_FD_NO_CLOEXEC (1).

        Returns:
            The number, close-on-exec unless flags say otherwise.

        Raises:
            OSError: EBADF, the ring, or nothing at the index; EOPNOTSUPP, no ring; EINVAL, unknown
                flags; EMFILE.

        Kernel:
            6.8, io_uring_enter(2), IORING_OP_FIXED_FD_INSTALL.
        """
        found = self._ring(ring)
        return self.operate(found, lambda: self._install(found, index, flags))

    def _install(self, ring: RingFile, index: int, flags: int) -> int:
        if flags & ~NO_CLOEXEC:
            raise failure(errno.EINVAL)
        return self.receive_fd(ring.fixed(index), close_on_exec=not flags)

    def _registering(self, number: int) -> RingFile:
        # KERNEL: since 6.12 there are things to register with no ring at all, and these are not.
        if number == -1:
            raise failure(errno.EINVAL)
        return self._ring(number)

    def _ring(self, number: int) -> RingFile:
        """Return the ring behind a number, with a reference for the caller."""
        file = self.fget(number)
        if not isinstance(file, RingFile):
            self.kernel.fput(file)
            raise failure(errno.EOPNOTSUPP)
        return file
