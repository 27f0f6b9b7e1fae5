"""What every system call works with: who calls, and the kernel's ways to and from the table."""

import errno
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from fdproof.model._failure import Blocked, failure
from fdproof.model._file import File
from fdproof.model._pending import Pending

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel
    from fdproof.model._notifier import Filter
    from fdproof.model._process import Process, ProcessTable
    from fdproof.model._task import Task

__all__ = ["CALLS", "Caller", "system_call"]

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="Caller")

CALLS: dict[str, Callable[..., Any]] = {}
"""The system calls, by name, as the kernel carries them out: without filters, and not waited for."""


def system_call(function: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """Make a method of a task a system call: filters see it, and waiting calls go on after it."""
    name = function.__name__
    CALLS[name] = function

    @functools.wraps(function)
    def call(self: C, *args: P.args, **kwargs: P.kwargs) -> R:
        kernel = self.kernel
        if kernel.current is not None:
            # A call within a call, as openat within open: the outer one was the program's.
            return function(self, *args, **kwargs)
        if self.filters or self.pending is not None or self.ended:
            return cast("R", self.call_aside(name, args, kwargs))
        kernel.current = cast("Task", self)
        try:
            return function(self, *args, **kwargs)
        except Blocked as blocked:
            blocked.abandon()
            raise
        finally:
            kernel.current = None
            if kernel.waiting:
                kernel.settle()

    return cast("Callable[Concatenate[C, P], R]", call)


class Caller:
    """A task as its system calls see it: whose it is, what it may, and its table."""

    def __init__(self, process: "Process", table: "ProcessTable", pid: int | None = None) -> None:
        self.kernel: Kernel = process.kernel
        self.process = process
        self.files = table
        """The table; ``table()`` shows what is in it."""
        self.pid = process.pid if pid is None else pid
        """The thread's own number, which for the first thread is the process's."""
        self.pidfd: int | None = None
        """With CLONE_PIDFD: the number of its pidfd, in the table of the task that cloned it."""
        self.children: list[Process] = []
        """The processes that this thread made, and those that it has from threads that ended."""
        self.filters: list[Filter] = []
        self.pending: Pending | None = None
        self.ended = False
        process.threads.append(cast("Task", self))
        self.kernel.tasks[self.pid] = cast("Task", self)

    @property
    def uid(self) -> int:
        """Who it runs as; 0 has every privilege."""
        return self.process.uid

    @property
    def gid(self) -> int:
        """Its group."""
        return self.process.gid

    @property
    def rlimit_nofile(self) -> int:
        """The soft limit, as it is now."""
        return self.process.soft

    # -- calls

    def begin(self, call: str, *arguments: Any, **options: Any) -> Pending:
        """Start a call that may wait, and return at once.

        Args:
            call: the name of a system call: the name of the method.
            arguments, options: what the method takes.

        Returns:
            The call under way; it goes on by itself when other tasks' calls make it possible.

        Raises:
            RuntimeError: the task has ended, or another call of it is still under way.
            ValueError: there is no such call.
        """
        if call not in CALLS:
            raise ValueError(f"call: {call!r} is no system call of the model")
        if self.ended:
            raise RuntimeError(f"task {self.pid} has ended: it makes no calls")
        if self.pending is not None:
            raise RuntimeError(
                f"{self.pending!r} has not returned: a task makes one call at a time"
            )
        function = CALLS[call]
        pending = Pending(cast("Task", self), call, lambda: function(self, *arguments, **options))
        self.pending = pending
        for found in reversed(self.filters):
            if call in found.calls:
                found.trap(cast("Task", self), call, arguments, pending)
                break
        else:
            pending.proceed()
        if self.kernel.current is None:
            self.kernel.settle()
        return pending

    def call_aside(self, call: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Make a call that a filter may trap, and that may not be made now."""
        pending = self.begin(call, *arguments, **options)
        if not pending.done:
            for found in self.filters:
                found.withdraw(pending)
            pending.abandon()
            raise Blocked
        return pending.result()

    # -- between numbers and files

    def fget_raw(self, fd: int) -> File:
        """Return the file behind a number, with a reference for the caller.

        Raises:
            OSError: EBADF, the number is not open.
        """
        file = self.files.lookup(fd)
        file.references += 1
        return file

    def fget(self, fd: int) -> File:
        """Return the file behind a number, with a reference for the caller; not one of O_PATH.

        Raises:
            OSError: EBADF, the number is not open, or only names a place.
        """
        file = self.files.lookup(fd)
        if file.flags & os.O_PATH:
            raise failure(errno.EBADF)
        file.references += 1
        return file

    def operate(self, file: File, operation: Callable[[], R]) -> R:
        """Do something with a file, and drop the caller's reference.

        If the operation would wait, the reference goes with the Blocked, and whoever waits tries the
        operation again: on this file, whatever its number means by then.
        """
        try:
            result = operation()
        except Blocked as blocked:
            blocked.hold(file, operation)
            raise
        except BaseException:
            self.kernel.fput(file)
            raise
        self.kernel.fput(file)
        return result

    def get_unused_fd_flags(self, flags: int = 0, at_least: int = 0) -> int:
        """Reserve the lowest free number; of the flags only O_CLOEXEC says something.

        Raises:
            OSError: EMFILE.
        """
        self.kernel.fallible("get_unused_fd_flags", errno.EMFILE)
        return self.files.reserve(
            at_least, limit=self.process.soft, close_on_exec=bool(flags & os.O_CLOEXEC)
        )

    def put_unused_fd(self, fd: int) -> None:
        """Give a reserved number back."""
        self.files.cancel(fd)

    def fd_install(self, fd: int, file: File) -> None:
        """Publish: put the file, with the caller's reference, into the reserved slot."""
        self.files.install(fd, file)

    def publish(self, build: Callable[[], File], flags: int = 0) -> int:
        """Reserve a number, build a file for it, and install it (FD_ADD).

        Args:
            build: makes the file, whose reference goes into the slot.
            flags: O_CLOEXEC.

        Raises:
            OSError: EMFILE; whatever ``build`` raises. Nothing is left behind.
        """
        fd = self.get_unused_fd_flags(flags)
        try:
            file = build()
        except BaseException:
            self.put_unused_fd(fd)
            raise
        self.fd_install(fd, file)
        return fd

    def install_pair(self, first: File, second: File, flags: int) -> tuple[int, int]:
        """Reserve two numbers and publish two files, or neither.

        Args:
            first, second: the files; their references go into the slots, or are dropped.
            flags: O_CLOEXEC.

        Raises:
            OSError: EMFILE; EFAULT, the program could not be told.
        """
        numbers: list[int] = []
        try:
            numbers += [self.get_unused_fd_flags(flags)]
            numbers += [self.get_unused_fd_flags(flags)]
            self.kernel.fallible("copy_to_user", errno.EFAULT)
        except OSError:
            for fd in numbers:
                self.put_unused_fd(fd)
            self.kernel.fput(first)
            self.kernel.fput(second)
            raise
        self.fd_install(numbers[0], first)
        self.fd_install(numbers[1], second)
        return numbers[0], numbers[1]

    def receive_fd(self, file: File, close_on_exec: bool, at_least: int = 0) -> int:
        """Take a reference of its own to a file into the table; the caller keeps his.

        Raises:
            OSError: EMFILE.
        """
        fd = self.get_unused_fd_flags(os.O_CLOEXEC if close_on_exec else 0, at_least)
        file.references += 1
        self.fd_install(fd, file)
        return fd

    def receive_fd_replace(self, fd: int, file: File, close_on_exec: bool) -> int:
        """Take a reference of its own to a file into the table, at an exact number.

        Raises:
            OSError: EBADF, beyond the soft limit; EMFILE, beyond ``nr_open``; EBUSY, reserved.
        """
        old = self.files.replace(fd, file, limit=self.process.soft, close_on_exec=close_on_exec)
        file.references += 1
        if old is not None:
            self.kernel.fput(old)
        return fd
