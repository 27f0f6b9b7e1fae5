"""Processes: what their threads share, and the tables that may be shared between processes."""

import errno
from typing import TYPE_CHECKING, Self

from fdproof.model._file import File
from fdproof.model._table import Table

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel
    from fdproof.model._pidfd import PidFile
    from fdproof.model._task import Task

__all__ = ["Process", "ProcessTable"]


class ProcessTable(Table[File]):
    """The table of one or more tasks: each open slot has a reference to its file."""

    __slots__ = ("kernel", "users")

    def __init__(self, kernel: "Kernel") -> None:
        super().__init__(nr_open=kernel.nr_open)
        self.kernel = kernel
        # INVARIANT: at zero everything is closed, and nobody uses it again.
        self.users = 1
        kernel.tables[self] = None

    def duplicate(self, *, without: tuple[int, int] | None = None) -> Self:
        """Return a copy with references of its own (dup_fd).

        Raises:
            OSError: EMFILE, see ``copy``; ENOMEM.
        """
        self.kernel.fallible("dup_fd", errno.ENOMEM)
        try:
            copy = self.copy(without=without)
        except OSError:
            # The half-made copy was registered when it was made.
            self.kernel.tables.popitem()
            raise
        for file in copy._files:
            if file is not None:
                file.references += 1
        return copy

    def drop(self) -> None:
        """Give up one use; with the last one, close everything, ascending."""
        self.users -= 1
        if not self.users:
            del self.kernel.tables[self]
            for file in self.remove_range(0, self.size - 1):
                self.kernel.fput(file)

    def _empty(self) -> Self:
        return type(self)(self.kernel)

    def _allocate(self, size: int) -> None:
        self.kernel.fallible("expand_fdtable", errno.ENOMEM)


class Process:
    """A thread group.

    It is running while it has threads, then a zombie until it is reaped.

    Args:
        kernel: where it runs.
        mother: the thread that made it, whose process may wait for it; None for init, who reaps at
            once.
        uid, gid: who it runs as; 0 has every privilege.
        soft, hard: RLIMIT_NOFILE.
    """

    def __init__(
        self,
        kernel: "Kernel",
        mother: "Task | None",
        *,
        uid: int,
        gid: int,
        soft: int,
        hard: int,
    ) -> None:
        self.kernel = kernel
        self.mother = mother
        self.uid, self.gid = uid, gid
        self.soft, self.hard = soft, hard
        self.pid = kernel.new_pid()
        self.threads: list[Task] = []
        self.memory: set[Process] = {self}
        """The processes that share its memory."""
        self.handlers: set[Process] = {self}
        """Those among them that share its signal handlers."""
        self.pidfiles: list[PidFile] = []
        self.status: int | None = None
        """What waitid finds: ``exit(7)`` is 7 << 8, a signal is its number; None while it runs."""
        self.reaped = False
        self.group_status: int | None = None
        """The status of an end that all threads share: a fatal signal, exit_group(2)."""
        kernel.processes[self.pid] = self
        if mother is not None:
            mother.children.append(self)

    @property
    def children(self) -> "list[Process]":
        """The processes that its threads made and have not reaped, thread by thread."""
        return [child for thread in self.threads for child in thread.children]

    @property
    def is_zombie(self) -> bool:
        """Whether all threads have ended, and nobody has asked for the status yet."""
        return self.status is not None and not self.reaped

    def share_memory(self, parent: "Process", *, handlers: bool) -> None:
        """Begin in the memory of the parent, at will with its signal handlers."""
        self.memory = parent.memory
        self.memory.add(self)
        if handlers:
            self.handlers = parent.handlers
            self.handlers.add(self)

    def leave_memory(self) -> None:
        """Stop sharing memory: the process ends, or becomes another program."""
        self.memory.discard(self)
        self.memory = {self}

    def leave_handlers(self) -> None:
        """Stop sharing signal handlers: the process is reaped, or becomes another program."""
        self.handlers.discard(self)
        self.handlers = {self}

    def thread_ended(self, task: "Task", status: int) -> None:
        """Hear of the end of a thread; with the last one the process ends."""
        self.threads.remove(task)
        for pidfile in tuple(self.pidfiles):
            pidfile.thread_ended(task.pid, status)
        heir = self.threads[0] if self.threads else None
        orphans, task.children = task.children, []
        for child in orphans:
            child.mother = heir
            if heir is not None:
                heir.children.append(child)
            elif child.is_zombie:
                self.kernel.reap(child)
        if heir is not None:
            return
        self.leave_memory()
        # KERNEL: where each thread ends for itself, the last one's status is the process's.
        self.status = status if self.group_status is None else self.group_status
        if self.mother is None:
            self.kernel.reap(self)
