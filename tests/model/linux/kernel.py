"""The running kernel as a subject: worlds of real tasks, with the methods of the model's.

One program or one test runs on `fdproof.model` and on Linux: `RealKernel` and `RealTask` have the
methods of `Kernel` and `Task`, and each is one system call of the task, but where it says otherwise.
"""

import contextlib
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from tests.model.linux import agents as memory
from tests.model.linux.agents import Agents
from tests.model.linux.calling import checked
from tests.model.linux.files import FileCalls
from tests.model.linux.sockets import SocketCalls
from tests.model.linux.supervision import SupervisionCalls
from tests.model.linux.tasks import TaskCalls

if TYPE_CHECKING:
    from tests.model.linux.ring import RealRing

__all__ = ["NEEDS_LINUX", "NEEDS_ROOT", "RealKernel", "RealTask"]

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
OBSERVED_AT_LEAST = 1024

NEEDS_LINUX = (
    pytest.mark.requires_kernel(
        *("ADDFD_SEND", "F_DUPFD_QUERY", "PIDFD_INFO_EXIT", "PIDFD_THREAD", "SO_PASSRIGHTS"),
        *("close_range", "io_uring", "kcmp", "pidfd_getfd", "pidfs", "seccomp notifier"),
    ),
)
"""Marks of what runs on Linux."""

NEEDS_ROOT = (*NEEDS_LINUX, pytest.mark.root)
"""Marks of what starts tasks of any user there, as the model does."""


class RealFile:
    """The file behind a number of a task, equal to the same file anywhere while both are open."""

    def __init__(self, task: "RealTask", number: int) -> None:
        self._task, self._number = task, number

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RealFile):
            return NotImplemented
        places = [(one._task.pid, one._number) for one in (self, other)]
        return self._task.kernel.agents.classes(places) == [0, 0]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<file of {self._number} in task {self._task.pid}>"


class RealEntry:
    """What a number of a table has: as `fdproof.model.Entry`."""

    def __init__(self, file: RealFile, cloexec: bool) -> None:
        self.file, self.cloexec = file, cloexec

    def __repr__(self) -> str:
        return f"RealEntry({self.file!r}, cloexec={self.cloexec})"


class RealKernel:
    """A world of tasks.

    Args:
        agents: who runs them; it serves one world at a time.
    """

    def __init__(self, agents: Agents) -> None:
        self.agents = agents
        self.root = agents.root
        self.tasks: list[RealTask] = []
        self.bound = 0
        self.rings: dict[tuple[int, int], RealRing] = {}

    def spawn(self, rlimit_nofile: int = 1024, uid: int = 0) -> "RealTask":
        """Start a process with an empty table.

        Args:
            rlimit_nofile: its soft limit.
            uid: its user. 0 is whoever runs the tests; only root starts tasks of others.
        """
        ordinary = os.geteuid() != 0
        if uid and ordinary:
            pytest.skip("needs root")
        index = self.agents.new_mailbox()
        id = self.agents.command(0, memory.CLONE, signal.SIGCHLD, index, 0)
        task = self.join(index, checked(id), id)
        self.agents.handle(index, signal.SIGCHLD, signal.SIG_DFL)
        task.system("chdir", task.put(os.fsencode(self.root) + b"\0"))
        task.setrlimit(rlimit_nofile)
        if ordinary:
            # Or it may install no filter.
            task.system("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if uid:
            task.system("setresgid", uid, uid, uid)
            task.system("setresuid", uid, uid, uid)
            task.system("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
        return task

    def join(self, index: int, pid: int, tgid: int) -> "RealTask":
        """Count a new task in; see `Caller` for what it is given."""
        task = RealTask(self, index, pid, tgid)
        self.tasks.append(task)
        return task

    def close(self) -> None:
        """Kill all tasks, and empty the directory."""
        for pid in {task.tgid for task in self.tasks if not task.ended}:
            self.agents.kill(pid)
        with os.scandir(self.root) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        self.tasks.clear()
        self.rings.clear()


class RealTask(FileCalls, SocketCalls, TaskCalls, SupervisionCalls):
    """A process or thread of the running kernel, as `fdproof.model.Task`."""

    def observed(self) -> tuple[memory.Entry, ...]:
        """The table as the last command left it; see `RealKernel.bound`."""
        return self.agents.entries(self.index)

    def observe(self) -> tuple[memory.Entry, ...]:
        """The table as it is."""
        with contextlib.suppress(OSError):
            self.system("gettid")
        return self.observed()

    def table(self) -> dict[int, RealEntry]:
        """What is open; the first 500 descriptors below the highest number that was named."""
        before = self.kernel.bound
        self.kernel.bound = max(before, OBSERVED_AT_LEAST, self.highest + 1)
        try:
            entries = self.observe()
        finally:
            self.kernel.bound = before
        return {
            entry.number: RealEntry(RealFile(self, entry.number), bool(entry.close_on_exec))
            for entry in entries
        }
