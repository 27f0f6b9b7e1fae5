"""Calls on descriptors: what they change is the table, not the file."""

import errno
import fcntl
import os

from fdproof.model._caller import Caller, system_call
from fdproof.model._failure import failure
from fdproof.model._file import File

__all__ = ["DescriptorCalls"]

CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC = 2, 4
F_DUPFD_QUERY, F_CREATED_QUERY = 1027, 1028
_OF_PATHS = {
    fcntl.F_DUPFD,
    fcntl.F_DUPFD_CLOEXEC,
    F_DUPFD_QUERY,
    F_CREATED_QUERY,
    fcntl.F_GETFD,
    fcntl.F_SETFD,
    fcntl.F_GETFL,
}
_UNSIGNED = 0xFFFFFFFF


class DescriptorCalls(Caller):
    """close, the dup family, fcntl and close_range."""

    @system_call
    def close(self, fd: int) -> None:
        """Close a descriptor; a reserved number stays reserved.

        Raises:
            OSError: EBADF.

        Kernel: close(2).
        """
        # KERNEL: the number is free before the file is let go of.
        self.kernel.fput(self.files.remove(fd))

    @system_call
    def dup(self, fd: int) -> int:
        """Return the lowest free number, for the same file, without close-on-exec.

        Raises:
            OSError: EBADF; EMFILE.

        Kernel: dup(2).
        """
        return self._duplicate(fd, 0, False)

    @system_call
    def dup2(self, old: int, new: int) -> int:
        """Make ``new`` a descriptor of the same file, closing what it was; equal numbers change nothing.

        Raises:
            OSError: EBADF, ``old`` is not open, or ``new`` is not below the limits; EBUSY, ``new`` is
                reserved.

        Kernel: dup2(2).
        """
        if old == new:
            self.files.lookup(old)
            return new
        return self._replace(old, new, False)

    @system_call
    def dup3(self, old: int, new: int, flags: int = 0) -> int:
        """Make ``new`` a descriptor of the same file, closing what it was.

        Raises:
            OSError: EINVAL, a flag other than O_CLOEXEC, or equal numbers, open or not; otherwise as
                ``dup2``.

        Kernel: 2.6.27, dup3(2).
        """
        if flags & ~os.O_CLOEXEC or old == new:
            raise failure(errno.EINVAL)
        return self._replace(old, new, bool(flags))

    @system_call
    def fcntl(self, fd: int, command: int, argument: int = 0) -> int:
        """Ask or change something about a descriptor or its file.

        Args:
            fd: the descriptor.
            command: F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD, F_DUPFD_CLOEXEC, F_DUPFD_QUERY (1027),
                F_CREATED_QUERY (1028), and what the kind of file knows.
            argument: the command's.

        Raises:
            OSError: EBADF; EINVAL, an unknown command, a lowest number beyond the soft limit, or
                O_DIRECT where the file cannot; EMFILE; EPERM, O_NOATIME on somebody else's file.

        Kernel: fcntl(2); F_DUPFD_QUERY 6.10, F_CREATED_QUERY 6.12.
        """
        file = self.files.lookup(fd)
        if file.is_path and command not in _OF_PATHS:
            raise failure(errno.EBADF)
        if command in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
            if not 0 <= argument < self.process.soft:
                raise failure(errno.EINVAL)
            return self._duplicate(fd, argument, command == fcntl.F_DUPFD_CLOEXEC)
        if command == fcntl.F_GETFD:
            return int(self.files.close_on_exec(fd))
        if command == fcntl.F_SETFD:
            self.files.set_close_on_exec(fd, bool(argument & fcntl.FD_CLOEXEC))
            return 0
        if command == fcntl.F_GETFL:
            return file.flags
        if command == fcntl.F_SETFL:
            self._set_status_flags(file, argument)
            return 0
        if command == F_DUPFD_QUERY:
            return int(self.files.lookup(argument) is file)
        if command == F_CREATED_QUERY:
            return int(file.created)
        return file.fcntl(command, argument)

    @system_call
    def close_range(self, first: int, last: int, flags: int = 0) -> None:
        """Close, or with CLOSE_RANGE_CLOEXEC mark, all descriptors from first to last.

        Reserved slots are not closed, but marked. With CLOSE_RANGE_UNSHARE it happens in a copy of
        the table, if that is shared, which is the caller's from then on.

        Args:
            first, last: unsigned, so that -1 is the highest number there is.
            flags: CLOSE_RANGE_UNSHARE (2), CLOSE_RANGE_CLOEXEC (4).

        Raises:
            OSError: EINVAL, another flag, or first is above last; EMFILE, ENOMEM: the copy.

        Kernel: 5.9, close_range(2); CLOSE_RANGE_CLOEXEC 5.11.
        """
        first, last = first & _UNSIGNED, last & _UNSIGNED
        if flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) or first > last:
            raise failure(errno.EINVAL)
        table, shared = self.files, None
        if flags & CLOSE_RANGE_UNSHARE and table.users > 1:
            shared = table
            # KERNEL: what is to be closed anyway needs no room in the copy.
            table = table.duplicate(without=None if flags & CLOSE_RANGE_CLOEXEC else (first, last))
        if flags & CLOSE_RANGE_CLOEXEC:
            table.mark_range(first, last)
        else:
            for file in table.remove_range(first, last):
                self.kernel.fput(file)
        if shared is not None:
            self.files = table
            shared.drop()

    def _duplicate(self, fd: int, at_least: int, close_on_exec: bool) -> int:
        file = self.fget_raw(fd)
        return self.operate(file, lambda: self.receive_fd(file, close_on_exec, at_least))

    def _replace(self, old: int, new: int, close_on_exec: bool) -> int:
        if not 0 <= new < self.process.soft:
            raise failure(errno.EBADF)
        try:
            self.files.expand(new)
        except OSError as error:
            # KERNEL: that the old one is bad is found first; and beyond nr_open is a bad number here.
            self.files.lookup(old)
            raise failure(errno.EBADF) if error.errno == errno.EMFILE else error from None
        file = self.files.lookup(old)
        return self.receive_fd_replace(new, file, close_on_exec)

    def _set_status_flags(self, file: File, argument: int) -> None:
        if (
            argument & os.O_NOATIME
            and not file.flags & os.O_NOATIME
            and self.uid not in (0, file.owner)
        ):
            raise failure(errno.EPERM)
        if argument & os.O_DIRECT and not file.settable & os.O_DIRECT:
            raise failure(errno.EINVAL)
        # KERNEL: O_DIRECT can be left out of a file that does not know it, O_ASYNC is not heard of.
        settable = file.settable | os.O_DIRECT
        file.flags = argument & settable | file.flags & ~settable
