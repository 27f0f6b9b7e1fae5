"""Calls on pidfds and tasks, and what makes and ends tasks."""

import signal
import struct
from typing import TYPE_CHECKING

from fdproof.model import Info, Waited
from tests.model.linux import agents as memory
from tests.model.linux.agents import number_of
from tests.model.linux.calling import Caller, nothing

if TYPE_CHECKING:
    from tests.model.linux.kernel import RealTask

__all__ = ["TaskCalls"]

CLONE_PIDFD, CLONE_THREAD = 0x1000, 0x10000
PIDFD_GET_INFO = 0xC040FF0B
RLIMIT_NOFILE = 7


class TaskCalls(Caller):
    """The calls on pidfds and tasks, as methods of `fdproof.model.Task`."""

    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        return self.system("pidfd_open", pid, flags)

    def pidfd_getfd(self, pidfd: int, fd: int, flags: int = 0) -> int:
        return self.system("pidfd_getfd", pidfd, fd, flags)

    def pidfd_send_signal(self, pidfd: int, signal: int, flags: int = 0) -> None:
        self.reading(nothing, "pidfd_send_signal", pidfd, signal, 0, flags)

    def pidfd_info(self, pidfd: int, mask: int = 0) -> Info:
        address = self.put(struct.pack("=Q56x", mask))

        def info(_: int) -> Info:
            found, pid, exit_code = struct.unpack("=Q8xi40xi", self.taken(address, 64))
            return Info(found, pid, exit_code)

        return self.reading(info, "ioctl", pidfd, PIDFD_GET_INFO, address)

    def waitid(self, idtype: int, id: int, options: int) -> Waited | None:
        address = self.put(bytes(128))

        def waited(_: int) -> Waited | None:
            code, pid, status = struct.unpack("=8xi4xi4xi", self.taken(address, 28))
            return Waited(pid, code, status) if pid else None

        return self.reading(waited, "waitid", idtype, id, address, options, 0)

    def getpid(self) -> int:
        return self.system("getpid")

    def kill(self, pid: int, signal: int) -> None:
        """kill(2); a signal that does something goes to nobody but a task of this world."""
        assert not signal or pid in {
            number for task in self.kernel.tasks for number in (task.pid, task.tgid)
        }
        self.reading(nothing, "kill", pid, signal)

    def fork(self) -> "RealTask":
        return self.clone(0)

    def clone(self, flags: int) -> "RealTask":
        """clone(2): with SIGCHLD at the end, unless it makes a thread."""
        index = self.agents.new_mailbox()
        pidfd = self.put(struct.pack("=i", -1))
        ending = 0 if flags & CLONE_THREAD else signal.SIGCHLD

        def child(id: int) -> "RealTask":
            pid = self.tgid if flags & CLONE_THREAD else id
            task = self.kernel.join(index, id, pid)
            if flags & CLONE_PIDFD:
                task.pidfd = struct.unpack("=i", self.taken(pidfd, 4))[0]
            return task

        return self.run(memory.CLONE, (flags | ending, index, pidfd), child)

    def unshare(self, flags: int) -> None:
        self.reading(nothing, "unshare", flags)

    def execve(self) -> None:
        """execve(2) of the agent; the other threads are gone, and the task leads its process."""

        def executed(_: int) -> None:
            for task in self.kernel.tasks:
                if task.tgid == self.tgid and task is not self:
                    # If it led, its number is this task's from now on.
                    task.ended = task.reaped = True
            self.pid = self.tgid

        self.run(memory.EXECVE, (), executed)

    def exit(self, status: int = 0) -> None:
        """exit(2), of this thread; and wait until the table is let go of."""
        self.agents.post(self.index, memory.SYSTEM_CALL, (number_of("exit"), status))
        self.wait_for_end()

    def setrlimit(self, soft: int, hard: int | None = None) -> None:
        """prlimit64(2) of the number of descriptors; without a hard limit it stays."""
        if hard is None:
            old = self.put(bytes(16))
            self.system("prlimit64", 0, 7, 0, old)
            hard = struct.unpack("=8xQ", self.taken(old, 16))[0]
        new = self.put(struct.pack("=QQ", soft, hard))
        self.reading(nothing, "prlimit64", 0, 7, new, 0)
