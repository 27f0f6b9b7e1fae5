"""The calls on pidfds."""

import errno
import os
from typing import TYPE_CHECKING

from fdproof.model._caller import system_call
from fdproof.model._calls_signals import SignalCalls
from fdproof.model._epoll import EpollFile
from fdproof.model._failure import failure
from fdproof.model._file import File
from fdproof.model._notifier import Listener
from fdproof.model._pidfd import PIDFD_NONBLOCK, PIDFD_THREAD, Info, PidFile

if TYPE_CHECKING:
    from fdproof.model._process import Process

__all__ = ["PidfdCalls"]

PIDFD_SELF, PIDFD_SELF_PROCESS = -10000, -10001
TO_THREAD, TO_PROCESS, TO_PROCESS_GROUP = 1, 2, 4


class PidfdCalls(SignalCalls):
    """pidfd_open, pidfd_getfd, pidfd_send_signal, PIDFD_GET_INFO."""

    @system_call
    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        """Open a pidfd of a process; with PIDFD_THREAD, of a task.

        Returns:
            Its number, always close-on-exec.

        Raises:
            OSError: EINVAL, unknown flags or no pid; ESRCH, nobody has it; ENOENT, it is the pid of a
                thread (EINVAL before Linux 6.16); EMFILE, ENFILE.

        Kernel:
            5.3, pidfd_open(2).
        """
        if flags & ~(PIDFD_NONBLOCK | PIDFD_THREAD) or pid <= 0:
            raise failure(errno.EINVAL)
        process = self.kernel.processes.get(pid)
        if process is None:
            thread = self.kernel.tasks.get(pid)
            if thread is None:
                raise failure(errno.ESRCH)
            if not flags & PIDFD_THREAD:
                raise failure(errno.ENOENT)
            process = thread.process
        named = process
        return self.publish(lambda: PidFile(self.kernel, named, pid, flags), os.O_CLOEXEC)

    def pidfd_of(self, process: "Process", pid: int) -> int:
        """Make a pidfd of a process, which may be reaped, and tell its number to the program.

        Raises:
            OSError: EMFILE, ENFILE; EFAULT, and then there is no pidfd.
        """

        def build() -> PidFile:
            file = PidFile(self.kernel, process, pid)
            try:
                self.kernel.fallible("copy_to_user", errno.EFAULT)
            except OSError:
                self.kernel.fput(file)
                raise
            return file

        return self.publish(build, os.O_CLOEXEC)

    @system_call
    def pidfd_getfd(self, pidfd: int, fd: int, flags: int = 0) -> int:
        """Take a file out of another process's table.

        Returns:
            Its number here, always close-on-exec.

        Raises:
            OSError: EINVAL, flags; EBADF, no pidfd, or not open there; EPERM, a process of another
                user; ESRCH, the process has ended, reaped or not; EMFILE.

        Kernel:
            5.6, pidfd_getfd(2).
        """
        if flags:
            raise failure(errno.EINVAL)
        file = self.fget(pidfd)
        return self.operate(file, lambda: self._take(file, fd))

    def _take(self, file: File, fd: int) -> int:
        if not isinstance(file, PidFile):
            raise failure(errno.EBADF)
        if file.reaped:
            raise failure(errno.ESRCH)
        if self.uid not in (0, file.process.uid):
            raise failure(errno.EPERM)
        if file.task is None:
            raise failure(errno.ESRCH)
        taken = file.task.fget_raw(fd)
        return self.operate(taken, lambda: self.receive_fd(taken, close_on_exec=True))

    @system_call
    def pidfd_send_signal(self, pidfd: int, signal: int, flags: int = 0) -> None:
        """Send a signal to a process or, by flag or kind of pidfd, to a thread.

        No signal of the model has a handler: it kills, or does nothing. Process groups are not
        modelled; nobody leads one.

        Raises:
            OSError: EINVAL, more than one flag, or no such signal; EBADF, no pidfd; ESRCH, reaped;
                EPERM, a process of another user.

        Kernel:
            5.1, pidfd_send_signal(2).
        """
        if flags not in (0, TO_THREAD, TO_PROCESS, TO_PROCESS_GROUP):
            raise failure(errno.EINVAL)
        if pidfd in (PIDFD_SELF, PIDFD_SELF_PROCESS):
            process, reaped = self.process, False
        else:
            file = self.files.lookup(pidfd)
            if not isinstance(file, PidFile):
                raise failure(errno.EBADF)
            process, reaped = file.process, file.reaped
        if reaped or flags == TO_PROCESS_GROUP:
            raise failure(errno.ESRCH)
        self.send_signal(process, signal)

    @system_call
    def pidfd_info(self, pidfd: int, mask: int = 0) -> Info:
        """Ask about the process behind a pidfd (the ioctl PIDFD_GET_INFO).

        Args:
            pidfd: its number.
            mask: what to tell besides: 8, how it ended; 16, whether it dumped core.

        Raises:
            OSError: EBADF, not open; ENOTTY, no pidfd (EINVAL from an epoll or a listener); ESRCH, reaped, and
                how it ended was not asked for.

        Kernel:
            6.13; 6.15 with the end of the process.
        """
        file = self.fget(pidfd)
        return self.operate(file, lambda: self._info(file, mask))

    def _info(self, file: File, mask: int) -> Info:
        if isinstance(file, PidFile):
            return file.info(mask)
        # KERNEL: these two have ioctls of their own, and say so differently.
        known = isinstance(file, EpollFile | Listener)
        raise failure(errno.EINVAL if known else errno.ENOTTY)
