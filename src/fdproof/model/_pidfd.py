"""pidfds: files that name a process or a thread for good, however its number is used later."""

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fdproof.model._failure import failure
from fdproof.model._file import READABLE, File

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel
    from fdproof.model._process import Process
    from fdproof.model._task import Task

__all__ = ["Info", "PidFile"]

PIDFD_NONBLOCK = os.O_NONBLOCK
PIDFD_THREAD = os.O_EXCL
INFO_EXIT, INFO_COREDUMP = 8, 16
_ALWAYS, _CGROUP = 7, 4
_HUP = 0x10


@dataclass(frozen=True, slots=True)
class Info:
    """What PIDFD_GET_INFO says.

    ``mask`` tells which parts are valid. ``pid`` is 0 once the task was reaped; ``exit_code``, a
    status as of waitpid(2), is there only then.
    """

    mask: int
    pid: int
    exit_code: int


class PidFile(File):
    """The file behind a pidfd.

    Args:
        kernel: where it lives.
        process: whose it is, reaped or not.
        pid: the process's number, or that of one of its threads.
        flags: PIDFD_NONBLOCK; PIDFD_THREAD, to mean the one thread also where it is the first.
    """

    def __init__(self, kernel: "Kernel", process: "Process", pid: int, flags: int = 0) -> None:
        super().__init__(kernel, os.O_RDWR | flags & (PIDFD_NONBLOCK | PIDFD_THREAD))
        self.process = process
        self.pid = pid
        self._thread_status = 0
        process.pidfiles.append(self)

    @property
    def task(self) -> "Task | None":
        """The thread of this number, while it runs."""
        return next((task for task in self.process.threads if task.pid == self.pid), None)

    @property
    def reaped(self) -> bool:
        """Whether the number means nothing any more; threads but the first are never zombies."""
        return self.process.reaped if self.pid == self.process.pid else self.task is None

    def info(self, mask: int) -> Info:
        """Return what is known of the target.

        Raises:
            OSError: ESRCH, it was reaped, and how it ended was not asked for.
        """
        asked = mask & INFO_COREDUMP
        if not self.reaped:
            return Info(_ALWAYS | asked, self.pid, 0)
        if not mask & INFO_EXIT:
            raise failure(errno.ESRCH)
        status = self.process.status if self.pid == self.process.pid else self._thread_status
        assert status is not None
        return Info(_CGROUP | INFO_EXIT | asked, 0, status)

    def thread_ended(self, pid: int, status: int) -> None:
        """Hear of the end of a thread of the process."""
        if pid == self.pid:
            self._thread_status = status
        self.wake(self.poll())

    def poll(self) -> int:
        if self.reaped:
            return READABLE | _HUP
        # KERNEL: while others run, the end of the first thread is told to nobody, since one of the
        # others may still take its number by execve.
        return 0 if self.process.threads else READABLE

    def release(self) -> None:
        self.process.pidfiles.remove(self)
