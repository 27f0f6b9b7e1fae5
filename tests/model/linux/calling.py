"""How a task of the running kernel makes its calls: through its mailbox."""

import os
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.model.linux import agents as memory
from tests.model.linux.agents import StuckError, number_of

if TYPE_CHECKING:
    from tests.model.linux.kernel import RealKernel

__all__ = ["Caller", "RealPending", "checked", "nothing"]

R = TypeVar("R")


class Posted(BaseException):
    """The call was given to the task; who began it has it from here."""

    def __init__(self, pending: "RealPending") -> None:
        self.pending = pending


class RealPending:
    """A call that was begun."""

    def __init__(self, task: "Caller", then: Callable[[int], Any]) -> None:
        self._task, self._then = task, then

    @property
    def done(self) -> bool:
        """Whether it has ended; False only once the task sleeps in it."""
        agents = self._task.kernel.agents
        while not agents.answered(self._task.index):
            if self._task.state() not in ("R", "D") and not self._task.waits_for_a_command():
                return agents.answered(self._task.index)
            os.sched_yield()
        return True

    def result(self) -> Any:
        """Wait for what it returned, or raise what it raised."""
        return self._then(checked(self._task.answer()))


class Caller:
    """A task, as far as it makes calls.

    Args:
        kernel: its world.
        index: of its mailbox.
        pid: of the thread.
        tgid: the pid of its process.
    """

    def __init__(self, kernel: "RealKernel", index: int, pid: int, tgid: int) -> None:
        self.kernel = kernel
        self.index = index
        self.pid = pid
        self.tgid = tgid
        self.pidfd: int | None = None
        self.ended = self.reaped = False
        self.highest = 0
        """The highest number that a call has named and got."""
        self.agents = kernel.agents
        self._data = kernel.agents.data(index)
        self._address = kernel.agents.data_address(index)
        self._used = 0
        self._begins = False

    def put(self, content: bytes) -> int:
        """Write what a call reads, or zeros that it overwrites; return where the task finds it."""
        at = (self._used + 7) & ~7
        self._data[at : at + len(content)] = content
        self._used = at + len(content)
        return self._address + at

    def taken(self, address: int, length: int) -> bytes:
        """What a call wrote."""
        at = address - self._address
        return bytes(self._data[at : at + length])

    def run(self, command: int, arguments: Sequence[int], then: Callable[[int], R]) -> R:
        """Give the task a command, wait for its value, and return what `then` makes of it."""
        self._used = 0
        self.agents.post(self.index, command, arguments, self.kernel.bound)
        if self._begins:
            raise Posted(RealPending(self, then))
        return then(checked(self.answer()))

    def answer(self) -> int:
        """Wait for what the call said; 0 if the task ended in it, as by a signal to itself."""
        deadline = time.monotonic() + memory.PATIENCE
        while True:
            try:
                return self.agents.answer(self.index, timeout=0.002)
            except StuckError:
                if self.state() in "ZX-":
                    return 0
                if time.monotonic() > deadline:
                    raise

    def system(self, name: str, *arguments: int) -> int:
        """Make a system call, and return its value."""
        return self.run(memory.SYSTEM_CALL, (number_of(name), *arguments), int)

    def reading(self, then: Callable[[int], R], name: str, *arguments: int) -> R:
        """Make a system call, and return what `then` makes of its value and of what it wrote."""
        return self.run(memory.SYSTEM_CALL, (number_of(name), *arguments), then)

    def pair(self, address: int) -> Callable[[int], tuple[int, int]]:
        """What a call returns that wrote two numbers."""

        def numbers(_: int) -> tuple[int, int]:
            first, second = struct.unpack("=2i", self.taken(address, 8))
            return first, second

        return numbers

    def begin(self, call: str, *arguments: Any) -> RealPending:
        """Begin a call that may wait."""
        self._begins = True
        try:
            getattr(self, call)(*arguments)
        except Posted as posted:
            return posted.pending
        finally:
            self._begins = False
        raise AssertionError(f"{call} made no call")

    def state(self) -> str:
        """The kernel's letter for what the task does: R, S, Z ...; "-" once it is gone."""
        try:
            line = Path(f"/proc/{self.tgid}/task/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return "-"
        return line[line.rindex(")") + 2]

    def waits_for_a_command(self) -> bool:
        """Whether the task sleeps at its mailbox: it may not have seen yet what is in there."""
        try:
            call = Path(f"/proc/{self.tgid}/task/{self.pid}/syscall").read_text().split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return call == str(number_of("futex"))

    def wait_for_end(self) -> None:
        """Wait until the task has ended and has let go of its table."""
        self._wait_for("ZX-")
        self.ended = True

    def wait_for_reaping(self) -> None:
        """Wait until nothing is left of the task, its number neither."""
        self._wait_for("-")
        self.reaped = True

    def _wait_for(self, states: str) -> None:
        deadline = time.monotonic() + memory.PATIENCE
        while self.state() not in states:
            if time.monotonic() > deadline:
                raise StuckError(f"task {self.pid} did not end")
            os.sched_yield()


def checked(result: int) -> int:
    """Return what a call said, or raise it."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def nothing(_: int) -> None:
    """What a call that only succeeds returns."""
