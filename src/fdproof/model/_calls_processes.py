"""Calls that make and end tasks, and say which of them share a table."""

import errno
import os
import signal
from typing import TYPE_CHECKING, cast

from fdproof.model._caller import Caller, system_call
from fdproof.model._failure import failure
from fdproof.model._pidfd import PIDFD_THREAD, PidFile
from fdproof.model._process import Process, ProcessTable

if TYPE_CHECKING:
    from fdproof.model._task import Task

__all__ = ["ProcessCalls"]

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
CLONE_PIDFD, CLONE_THREAD, CLONE_SYSVSEM = 0x1000, 0x10000, 0x40000
_CLONE = (
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_PIDFD | CLONE_THREAD | CLONE_SYSVSEM
)
_NAMESPACES = (
    0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x80
)
_UNSHARE = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
RLIM_INFINITY = 2**64 - 1


class ProcessCalls(Caller):
    """fork, clone, unshare, execve, exit, setrlimit and getpid."""

    @system_call
    def getpid(self) -> int:
        """Return the number of the process."""
        return self.process.pid

    @system_call
    def fork(self) -> "Task":
        """Make a process with a copy of the table; what is reserved stays behind.

        Returns:
            Its one thread.

        Raises:
            OSError: EMFILE, the table reaches beyond an ``nr_open`` lowered since; ENOMEM.

        Kernel: fork(2).
        """
        return self.clone(signal.SIGCHLD)

    @system_call
    def clone(self, flags: int) -> "Task":
        """Make a thread or a process.

        Args:
            flags: CLONE_FILES shares the table; CLONE_THREAD, with CLONE_SIGHAND and CLONE_VM, makes a
                thread; CLONE_PIDFD makes a pidfd, ``pidfd`` of the new task. The low byte is the signal.

        Returns:
            The new task.

        Raises:
            OSError: EINVAL, flags that need others; EMFILE, ENOMEM, EFAULT, EAGAIN: the table,
                or the pidfd.
            NotImplementedError: a flag that the model does not know.

        Kernel: clone(2); CLONE_PIDFD 5.2.
        """
        asked = flags & ~0xFF
        if asked & ~_CLONE:
            raise NotImplementedError(f"flags: the model does not know {asked & ~_CLONE:#x}")
        if flags & CLONE_THREAD and not flags & CLONE_SIGHAND:
            raise failure(errno.EINVAL)
        if flags & CLONE_SIGHAND and not flags & CLONE_VM:
            raise failure(errno.EINVAL)
        self.kernel.fallible("copy_process", errno.ENOMEM)
        task = self._new_task(flags)
        pidfd = None
        if flags & CLONE_PIDFD:
            try:
                pidfd = self._pidfd_for_clone(task, thread=bool(flags & CLONE_THREAD))
            except OSError:
                task.vanish()
                raise
        for found in self.filters:
            task.filters.append(found)
            found.join()
        task.pidfd = pidfd
        return task

    @system_call
    def unshare(self, flags: int) -> None:
        """Stop sharing: with CLONE_FILES the table, of which the caller gets a copy.

        Raises:
            OSError: EINVAL, unknown flags, or CLONE_THREAD, CLONE_SIGHAND or CLONE_VM where there is
                something of it to stop sharing; EMFILE, ENOMEM: the copy.
            NotImplementedError: a flag for namespaces, which the model does not have.

        Kernel: 2.6.16, unshare(2).
        """
        if flags & ~(_UNSHARE | _NAMESPACES):
            raise failure(errno.EINVAL)
        if flags & _NAMESPACES:
            raise NotImplementedError("flags: the model has no namespaces")
        process = self.process
        alone = len(process.threads) == 1 and self.pid == process.pid
        if (
            (flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) and not alone)
            or (flags & (CLONE_SIGHAND | CLONE_VM) and len(process.handlers) > 1)
            or (flags & CLONE_VM and len(process.memory) > 1)
        ):
            raise failure(errno.EINVAL)
        if flags & CLONE_FILES:
            self._unshare_files()

    @system_call
    def execve(self) -> None:
        """Go on as another program: close what is close-on-exec, in a table of its own.

        The other threads of the process end, and the caller takes the process's number. If a table
        that is shared cannot be copied, it is too late for an error: the process is killed.

        Kernel: execve(2).
        """
        for task in tuple(self.process.threads):
            if task is not self:
                task.end(0)
        del self.kernel.tasks[self.pid]
        self.pid = self.process.pid
        self.kernel.tasks[self.pid] = cast("Task", self)
        try:
            self._unshare_files()
        except OSError:
            self.end(signal.SIGSEGV)
            return
        self.process.leave_memory()
        self.process.leave_handlers()
        for file in self.files.remove_close_on_exec():
            self.kernel.fput(file)

    @system_call
    def exit(self, status: int = 0) -> None:
        """End this thread; with the last user of a table, everything in it is closed, ascending."""
        self.end((status & 0xFF) << 8)

    @system_call
    def setrlimit(self, soft: int, hard: int | None = None) -> None:
        """Set RLIMIT_NOFILE of the process; what is open beyond it stays open.

        Args:
            soft: no new number may reach this.
            hard: no soft limit may be higher; unchanged unless told.

        Raises:
            OSError: EINVAL, soft is above hard; EPERM, hard is above ``nr_open``, or raised by
                somebody who is not root.

        Kernel: setrlimit(2).
        """
        process = self.process
        hard = process.hard if hard is None else hard
        if soft > hard:
            raise failure(errno.EINVAL)
        if hard > self.kernel.nr_open or (hard > process.hard and self.uid != 0):
            raise failure(errno.EPERM)
        process.soft, process.hard = soft, hard

    def end(self, status: int) -> None:
        """End this thread, by itself or by a signal.

        Args:
            status: as waitid finds it: ``exit(7)`` is 7 << 8, a signal is its number.
        """
        if self.ended:
            return
        self.ended = True
        if self.pending is not None:
            self.pending.abandon()
        filters, self.filters = self.filters, []
        for found in filters:
            found.leave(cast("Task", self))
        self.files.drop()
        del self.kernel.tasks[self.pid]
        self.process.thread_ended(cast("Task", self), status)

    def vanish(self) -> None:
        """Undo the making of a task that nobody has seen."""
        self.ended = True
        self.files.drop()
        del self.kernel.tasks[self.pid]
        self.process.threads.remove(cast("Task", self))
        if not self.process.threads:
            self.process.leave_memory()
            self.kernel.reap(self.process)

    def pidfd_prepare(self, task: "Task", flags: int = 0) -> tuple[int, PidFile]:
        """Reserve a number and make a pidfd for it; neither is published.

        Raises:
            OSError: EMFILE; ENFILE.
        """
        fd = self.get_unused_fd_flags(os.O_CLOEXEC)
        try:
            return fd, PidFile(self.kernel, task.process, task.pid, flags)
        except OSError:
            self.put_unused_fd(fd)
            raise

    def _pidfd_for_clone(self, task: "Task", *, thread: bool) -> int:
        fd, file = self.pidfd_prepare(task, PIDFD_THREAD if thread else 0)
        try:
            # KERNEL: the program's memory has the number before there is a descriptor, and keeps it
            # when one of these fails.
            self.kernel.fallible("copy_to_user", errno.EFAULT)
            self.kernel.fallible("cgroup_can_fork", errno.EAGAIN)
        except OSError:
            self.put_unused_fd(fd)
            self.kernel.fput(file)
            raise
        self.fd_install(fd, file)
        return fd

    def _new_task(self, flags: int) -> "Task":
        table = self._table_for_clone(flags)
        kind = cast("type[Task]", type(self))
        if flags & CLONE_THREAD:
            return kind(self.process, table, self.kernel.new_pid())
        parent = self.process
        child = Process(
            self.kernel,
            cast("Task", self),
            uid=parent.uid,
            gid=parent.gid,
            soft=parent.soft,
            hard=parent.hard,
        )
        if flags & CLONE_VM:
            child.share_memory(parent, handlers=bool(flags & CLONE_SIGHAND))
        return kind(child, table)

    def _table_for_clone(self, flags: int) -> ProcessTable:
        if not flags & CLONE_FILES:
            return self.files.duplicate()
        self.files.users += 1
        return self.files

    def _unshare_files(self) -> None:
        shared = self.files
        if shared.users > 1:
            self.files = shared.duplicate()
            shared.drop()
