"""Programs of system calls, in words that mean the same on the model and on the kernel.

A program is a list of steps. A step names its task by the order in which tasks came to be, and
so are pids named, and notifications; numbers of descriptors are what they are, since both
subjects must agree on them.
"""

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from fdproof.model import (
    Blocked,
    Credentials,
    Info,
    Notification,
    Received,
    Task,
    Waited,
)
from tests.model.linux.kernel import RealTask

__all__ = [
    "NOBODYS_PID",
    "Blocking",
    "Failed",
    "Notified",
    "Pid",
    "Program",
    "Side",
    "Spawn",
    "Step",
]


NOBODYS_PID = 2**22 + 1
"""Above all that Linux gives out."""


class Pid(NamedTuple):
    """The pid, or thread id, of a task of the program."""

    task: int


class Notified(NamedTuple):
    """The id of a notification of the program, by the order in which they are received."""

    order: int


class Failed(NamedTuple):
    """The outcome of a call that failed."""

    error: str


class Blocking(NamedTuple):
    """The outcome of a call that waits."""


class Child(NamedTuple):
    """The outcome of a fork or clone."""

    task: int
    pidfd: int | None


@dataclass(frozen=True, slots=True)
class Spawn:
    """A task that the program starts with."""

    rlimit_nofile: int
    uid: int = 0


class Step(NamedTuple):
    """One system call.

    Args:
        task: who makes it.
        call: the name of a method.
        arguments: its positional ones, then a dict of those by name.
    """

    task: int
    call: str
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.call}({', '.join(map(repr, self.arguments))})"


class Program(NamedTuple):
    """Tasks, and what they do one after the other."""

    spawns: tuple[Spawn, ...]
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        lines = [
            f"task {index} = kernel.spawn(rlimit_nofile={spawn.rlimit_nofile}, uid={spawn.uid})"
            for index, spawn in enumerate(self.spawns)
        ]
        lines += [f"task {step.task}: {step}" for step in self.steps]
        return "\n".join(lines)


T = TypeVar("T", Task, RealTask)
Spawned_co = TypeVar("Spawned_co", covariant=True)


class Kernels(Protocol[Spawned_co]):
    """What starts tasks: the model's Kernel, or RealKernel."""

    def spawn(self, *, rlimit_nofile: int, uid: int) -> Spawned_co:
        """Start a process with an empty table."""


class Side(Generic[T]):
    """A subject that runs a program.

    Args:
        kernel: the subject.
        spawns: the tasks to start with.
    """

    def __init__(self, kernel: Kernels[T], spawns: Sequence[Spawn]) -> None:
        self.tasks: list[T] = []
        self.pending: dict[int, Any] = {}
        self._names: dict[int, Pid] = {}
        self._notifications: list[int] = []
        for spawn in spawns:
            self._join(kernel.spawn(rlimit_nofile=spawn.rlimit_nofile, uid=spawn.uid))

    def _join(self, task: T) -> None:
        self._names[task.pid] = Pid(len(self.tasks))
        self.tasks.append(task)

    def run(self, step: Step) -> Any:
        """Execute a step, and return its outcome in words that both subjects share."""
        task = self.tasks[step.task]
        positional = [self._resolved(one) for one in step.arguments if not isinstance(one, dict)]
        named = [one for one in step.arguments if isinstance(one, dict)]
        try:
            if step.call == "begin":
                self.pending[step.task] = task.begin(*positional)
                return None
            return self._outcome(
                getattr(task, step.call)(*positional, **(named[0] if named else {}))
            )
        except OSError as error:
            return failed(error)
        except Blocked:
            return Blocking()

    def finished(self, index: int) -> Any:
        """Return the outcome of the call that a task has under way, once it has ended."""
        try:
            return self._outcome(self.pending.pop(index).result())
        except OSError as error:
            return failed(error)

    def _resolved(self, argument: Any) -> Any:
        if isinstance(argument, Pid):
            if argument.task >= len(self.tasks):
                return NOBODYS_PID
            task = self.tasks[argument.task]
            return task.pid
        if isinstance(argument, Notified):
            known = self._notifications
            if argument.order < len(known):
                return known[argument.order]
            # KERNEL: ids count on, so what was not received yet can be named as well.
            return known[-1] + argument.order - len(known) + 1 if known else 0
        if isinstance(argument, tuple) and type(argument) is tuple:
            return tuple(map(self._resolved, argument))
        if isinstance(argument, Credentials):
            return replace(argument, pid=self._resolved(argument.pid))
        return argument

    def _outcome(self, value: Any) -> Any:
        if isinstance(value, Task | RealTask):
            self._join(cast("T", value))
            return Child(len(self.tasks) - 1, value.pidfd)
        if isinstance(value, Received):
            return replace(value, control=tuple(map(self._outcome, value.control)))
        if isinstance(value, (Credentials, Waited, Info)):
            return replace(value, pid=self.name(value.pid))
        if isinstance(value, Notification):
            self._notifications.append(value.id)
            return "notification", self.name(value.pid), value.call
        return value

    @property
    def notified(self) -> int:
        """How many notifications were received."""
        return len(self._notifications)

    def name(self, pid: int) -> Any:
        """Return what the program calls a pid; the pid itself if it is of no task."""
        return self._names.get(pid, pid)


def failed(error: OSError) -> Failed:
    """Return the outcome for an error."""
    assert error.errno is not None
    return Failed(errno.errorcode.get(error.errno, os.strerror(error.errno)))
