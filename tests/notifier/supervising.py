"""Drive the compiled loop as check does, and say what it saw."""

import time
from dataclasses import dataclass, field

from fdproof.check.loader import loader_range
from fdproof.notifier import Target
from fdproof.notifier._libseccomp import name_of, number_of
from fdproof.notifier._loop import Loop, Stop
from tests.notifier.scene import PATIENCE


@dataclass
class Seen:
    """Calls in the order in which they came: task (0 is the root, then as they appeared), name, occurrence."""

    calls: list[tuple[int, str, int]] = field(default_factory=list)
    faults: int = 0
    stop: Stop = Stop.ENDED


def supervise(
    target: Target,
    *,
    fault: tuple[int, str, int, int] | None = None,
    program: bool = False,
) -> Seen:
    """Count everything until the end.

    Args:
        target: whose calls.
        fault: task, call, occurrence and the errno that it gets.
        program: the target is a command: leave out what its loader does.
    """
    loop = Loop(target.listener, target.process, None, ())
    loop.counting = True
    loop.add_task(target.pid, 0)
    tasks = 1
    if program:
        loop.starts_program_of(target.pid)
    if fault is not None:
        number = number_of(fault[1])
        assert number is not None
        loop.set_fault(fault[0], number, fault[2])
    faults = 0
    while (stop := loop.run(time.monotonic() + PATIENCE)) is not Stop.ENDED:
        task = loop.pending[0]
        if stop is Stop.NEW_TASK:
            loop.add_task(task, tasks)
            tasks += 1
        elif stop is Stop.NEW_PROGRAM:
            loop.set_loader(*loader_range(task))
        else:
            assert stop is Stop.FAULT, stop
            assert fault is not None
            assert loop.occurrence == fault[2]
            faults += 1
            loop.fail(fault[3])
    calls = [(index, name_of(call), nth) for index, call, nth, _ in loop.events()]
    assert loop.calls == len(calls)
    return Seen(calls, faults, stop)
