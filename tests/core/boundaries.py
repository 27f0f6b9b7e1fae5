"""A real SIGINT at a chosen bytecode boundary of a function, and at each of them in turn.

The interpreter runs signal handlers between two bytecodes. Tracing gives a place before each
bytecode of the function and of all the Python code that it calls; there the signal is raised,
and Python's own handler turns it into KeyboardInterrupt, as Ctrl-C does. That is more places
than the interpreter has by itself, so what holds here holds there.
"""

import dis
import gc
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from tests.core.own_table import Open, table

# The two bytecodes that no exception may precede: they begin and end the handling of another, and if
# one of them is left out the thread goes on handling that one, with its frames and whatever they
# hold, for good. The interpreter runs no signal handler there.
HANDLING = {dis.opmap["PUSH_EXC_INFO"], dis.opmap["POP_EXCEPT"]}

# Python 3.13 traces the bytecodes of a function only from its second run under a trace function on.
REHEARSALS = int(sys.version_info >= (3, 13))


class Interrupted(NamedTuple):
    """What one interruption left behind."""

    boundary: int
    place: str
    left: dict[int, Open]
    lost: dict[int, Open]


class Sweep(NamedTuple):
    """All interruptions of one function."""

    boundaries: int
    damage: list[Interrupted]

    def __str__(self) -> str:
        lines = [f"interrupted at {self.boundaries} boundaries, damage at {len(self.damage)}"]
        lines += [
            f"  {one.boundary}: {one.place}: left {one.left}, lost {one.lost}"
            for one in self.damage[:10]
        ]
        return "\n".join(lines)


class _Interrupter:
    """A trace function that raises SIGINT before the bytecode with this index."""

    def __init__(self) -> None:
        self.boundary = sys.maxsize
        self.seen = 0
        self.place = ""

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event != "opcode" or frame.f_code.co_code[frame.f_lasti] in HANDLING:
            return self
        # Bytecodes that stand in no line are the compiler's own way out of a generator or a handler. The
        # interpreter looks for signals where a function starts, calls or loops, and not there.
        if frame.f_lineno is None:
            return self
        self.seen += 1
        if self.seen > self.boundary and not self.place:
            self.place = f"{frame.f_code.co_qualname}:{frame.f_lineno}, bytecode {frame.f_lasti}"
            signal.raise_signal(signal.SIGINT)
        return self


def _interrupt(operation: Callable[[], object], boundary: int) -> _Interrupter:
    """Run ``operation`` and interrupt it there, if it gets as far."""
    interrupter = _Interrupter()
    before = sys.gettrace()
    # Python 3.12 looks for this when tracing starts, in any frame that runs.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(interrupter)
    try:
        for _ in range(REHEARSALS):
            operation()
        interrupter.boundary, interrupter.seen = boundary, 0
        operation()
    except KeyboardInterrupt:
        assert interrupter.place, "somebody else interrupted the test"
    else:
        assert not interrupter.place, f"the interrupt at {interrupter.place} was swallowed"
    finally:
        sys.settrace(before)
    return interrupter


def _count(operation: Callable[[], object]) -> int:
    """How many boundaries an undisturbed run has; the first may fill a cache."""
    counted = -1
    while counted != (counted := _interrupt(operation, sys.maxsize).seen):
        pass
    return counted


def sweep(
    operation: Callable[[], object],
    clean_up: Callable[[int], object] | None = None,
    *,
    every: int = 1,
) -> Sweep:
    """Interrupt ``operation`` at each of its boundaries, and compare the table after each.

    Args:
        operation: run again for each boundary; undisturbed, it leaves the table as it was.
        clean_up: called for each number that was left, so that the next run starts afresh.
        every: 2 leaves out every other boundary, and so on, for operations that take long.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    damage = []
    # What exists already cannot hold the new descriptors: collecting stays cheap.
    gc.collect()
    gc.freeze()
    # By itself it would run where it likes, and call back what other tests' tools have registered.
    gc.disable()
    try:
        boundaries = _count(operation)
        for boundary in range(0, boundaries, every):
            before = table()
            place = _interrupt(operation, boundary).place
            assert place, f"this run had {boundary} boundaries, the one before {boundaries}"
            if (after := table()) != before:
                gc.collect()
                after = table()
            left = {number: found for number, found in after.items() if before.get(number) != found}
            lost = {number: found for number, found in before.items() if number not in after}
            if left or lost:
                damage.append(Interrupted(boundary, place, left, lost))
                for number in left:
                    if clean_up is not None:
                        clean_up(number)
        return Sweep(boundaries, damage)
    finally:
        gc.enable()
        gc.unfreeze()
        signal.signal(signal.SIGINT, handler)
