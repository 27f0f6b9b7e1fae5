"""The seccomp notifier: calls that stop until a supervisor answers them."""

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from fdproof.model._failure import Blocked, failure
from fdproof.model._file import File

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel
    from fdproof.model._pending import Pending
    from fdproof.model._task import Task

__all__ = ["Filter", "Listener", "Notification"]

CONTINUE = 1
SETFD, SEND = 1, 2
SYNC_WAKE_UP = 1
_READABLE, _WRITABLE, _HUP = 0x41, 0x104, 0x10


@dataclass(frozen=True, slots=True)
class Notification:
    """A call that waits for its answer.

    ``id`` counts from 1 in each filter; Linux begins anywhere. ``pid`` names the thread.
    """

    id: int
    pid: int
    call: str
    arguments: tuple[Any, ...]


class State(Enum):
    """How far a trapped call has come; one that was answered is gone from its filter."""

    INIT = "not received yet"
    SENT = "received, not answered"


class Trap:
    """A trapped call, from the side of its filter."""

    __slots__ = ("notification", "pending", "state", "task")

    def __init__(self, notification: Notification, task: "Task", pending: "Pending") -> None:
        self.notification = notification
        self.task = task
        self.pending = pending
        self.state = State.INIT


class Filter:
    """A filter that some tasks have, and the calls of theirs that it has stopped."""

    def __init__(self, calls: Iterable[str]) -> None:
        self.calls = frozenset(calls)
        self.listener: Listener | None = None
        self.users = 0
        self._last_id = 0
        self.traps: dict[int, Trap] = {}

    def trap(self, task: "Task", call: str, arguments: tuple[Any, ...], pending: "Pending") -> None:
        """Stop a call of a task until a supervisor, or the end of the listener, answers it."""
        if self.listener is None:
            pending.fail(errno.ENOSYS)
            return
        self._last_id += 1
        notification = Notification(self._last_id, task.pid, call, arguments)
        self.traps[self._last_id] = Trap(notification, task, pending)
        self.listener.wake(_READABLE)

    def join(self) -> None:
        """Count a task that has the filter from now on."""
        self.users += 1

    def withdraw(self, pending: "Pending") -> None:
        """Forget a call that is not waited for after all."""
        self.traps = {id: trap for id, trap in self.traps.items() if trap.pending is not pending}

    def leave(self, task: "Task") -> None:
        """Forget a task that ended, with what it was waiting for."""
        self.traps = {id: trap for id, trap in self.traps.items() if trap.task is not task}
        self.users -= 1
        if not self.users and self.listener is not None:
            self.listener.wake(_HUP)


class Listener(File):
    """The file by which a supervisor hears of the calls that a filter stopped, and answers them."""

    def __init__(self, kernel: "Kernel", seccomp_filter: Filter) -> None:
        super().__init__(kernel, os.O_RDWR)
        self.filter = seccomp_filter

    def receive(self) -> Notification:
        """Take the oldest notification that nobody took.

        Raises:
            OSError: ENOENT, no task has the filter any more.
            Blocked: there is none; O_NONBLOCK changes nothing about it.
        """
        for trap in self.filter.traps.values():
            if trap.state is State.INIT:
                self.kernel.fallible("copy_to_user", errno.EFAULT)
                trap.state = State.SENT
                self.wake(_WRITABLE)
                return trap.notification
        if not self.filter.users:
            raise failure(errno.ENOENT)
        raise Blocked

    def send(self, id: int, *, value: int, error: int, flags: int) -> None:
        """Answer a call: with a value, an errno, or by letting it run (CONTINUE).

        Raises:
            OSError: EINVAL, unknown flags, or CONTINUE with an answer; ENOENT, no such call waits;
                EINPROGRESS, it was not received.
        """
        if flags & ~CONTINUE or (flags and (value or error)):
            raise failure(errno.EINVAL)
        trap = self._received(id)
        del self.filter.traps[id]
        if flags & CONTINUE:
            trap.pending.proceed()
        elif error:
            trap.pending.fail(error)
        else:
            trap.pending.finish(value)

    def add(self, file: File, id: int, *, flags: int, number: int, close_on_exec: bool) -> int:
        """Put a file into the target's table; with SEND, answer its call with the number.

        Returns:
            The number in the target's table.

        Raises:
            OSError: ENOENT, EINPROGRESS; and what the target's own table says: EMFILE, EBADF
                (SETFD beyond its limit), EBUSY (SETFD on a reserved slot). The call waits on.
        """
        trap = self._received(id)
        if flags & SETFD:
            trap.task.receive_fd_replace(number, file, close_on_exec)
        else:
            number = trap.task.receive_fd(file, close_on_exec)
        if flags & SEND:
            del self.filter.traps[id]
            trap.pending.finish(number)
        return number

    def valid(self, id: int) -> bool:
        """Say whether a received call still waits."""
        trap = self.filter.traps.get(id)
        return trap is not None and trap.state is State.SENT

    def _received(self, id: int) -> Trap:
        trap = self.filter.traps.get(id)
        if trap is None:
            raise failure(errno.ENOENT)
        if trap.state is not State.SENT:
            raise failure(errno.EINPROGRESS)
        return trap

    # -- as a file

    def read(self, count: int) -> bytes:
        raise failure(errno.EINVAL)

    def write(self, data: bytes) -> int:
        raise failure(errno.EINVAL)

    def poll(self) -> int:
        states = {trap.state for trap in self.filter.traps.values()}
        return (
            (_READABLE if State.INIT in states else 0)
            | (_WRITABLE if State.SENT in states else 0)
            | (0 if self.filter.users else _HUP)
        )

    def release(self) -> None:
        self.filter.listener = None
        traps, self.filter.traps = self.filter.traps, {}
        for trap in traps.values():
            trap.pending.fail(errno.ENOSYS)
