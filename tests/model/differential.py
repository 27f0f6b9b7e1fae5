"""One program on the model and on the kernel, compared after every step."""

import errno
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fcntl import F_GETFL
from typing import NamedTuple

from fdproof.model import Kernel, Rights, Task
from tests.model.linux.agents import Agents, Entry, StuckError
from tests.model.linux.kernel import RealKernel, RealTask
from tests.model.program import Blocking, Failed, Program, Side, Spawn, Step
from tests.model.vocabulary import CALLS, THEMES, Draw, step

__all__ = ["KNOWN_GAPS", "Comparison", "DifferenceError", "minimal", "random_program", "replay"]

MOST_TASKS = 4
BOUND = 72
DWELLING = 5


class Gap(NamedTuple):
    """What model and Linux are known to differ in; random programs leave it out.

    Args:
        what: it is.
        reason: why it stays.
        meets: whether a step would meet it.
    """

    what: str
    reason: str
    meets: Callable[["Comparison", Step], bool]


class DifferenceError(Exception):
    """Model and kernel went different ways.

    Args:
        program: as far as it went.
        what: was compared.
        model, linux: what each of the two said.
    """

    def __init__(self, program: Program, what: str, model: object, linux: object) -> None:
        super().__init__(f"{program}\n\n{what}\n  model: {model}\n  Linux: {linux}")
        self.program = program
        self.what = what
        self.model, self.linux = model, linux


class Comparison:
    """A program under way on both subjects.

    Args:
        agents: run the kernel's side.
        spawns: the tasks to start with.
    """

    def __init__(
        self,
        agents: Agents,
        spawns: Sequence[Spawn],
    ) -> None:
        self.spawns = tuple(spawns)
        self.steps: list[Step] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.model_kernel = Kernel()
        self.model = Side[Task](self.model_kernel, spawns)
        self._kernel = RealKernel(agents)
        try:
            self._kernel.bound = BOUND
            self.linux = Side[RealTask](self._kernel, spawns)
        except BaseException:
            self._kernel.close()
            raise

    def close(self) -> None:
        """End the tasks of the kernel's side."""
        self._kernel.close()

    @property
    def program(self) -> Program:
        """What was run so far."""
        return Program(self.spawns, tuple(self.steps))

    def alive(self) -> list[int]:
        """The tasks that can make a call."""
        return [
            index
            for index, task in enumerate(self.model.tasks)
            if not task.ended and index not in self.model.pending
        ]

    def step(self, step: Step) -> None:
        """Execute a step on both sides.

        A step of a task that cannot make one, and a call that would wait, is left out.

        Raises:
            DifferenceError: the two did not do the same.
        """
        if step.task >= len(self.model.tasks) or step.task not in self.alive():
            return
        if any(gap.meets(self, step) for gap in KNOWN_GAPS):
            return
        self.steps.append(step)
        model = self.model.run(step)
        if isinstance(model, Blocking):
            self.steps.pop()
            return
        try:
            linux = self.linux.run(step)
            self.outcomes[step.call, model.error if isinstance(model, Failed) else "ok"] += 1
            self._compare(str(step), model, linux)
            self._settle(step)
            self._compare_tables()
        except StuckError as stuck:
            raise DifferenceError(self.program, str(step), model, f"stuck: {stuck}") from None

    def _compare(self, what: str, model: object, linux: object) -> None:
        if model != linux:
            raise DifferenceError(self.program, what, model, linux)

    def _settle(self, step: Step) -> None:
        """Wait for what the kernel does in its own time: the ends of tasks, and of calls."""
        for ours, real in zip(self.model.tasks, self.linux.tasks, strict=True):
            if ours.ended and not real.ended:
                real.wait_for_end()
            if ours.process.reaped and not real.reaped:
                # Orphans are reaped by agent 0, in its own time.
                real.wait_for_reaping()
        for index, pending in list(self.model.pending.items()):
            if self.model.tasks[index].ended:
                del self.model.pending[index], self.linux.pending[index]
            elif pending.done:
                what = f"{step}, the call that task {index} had under way"
                self._compare(what, self.model.finished(index), self.linux.finished(index))
            else:
                self._compare(f"{step}, done", False, self.linux.pending[index].done)

    def _compare_tables(self) -> None:
        places: list[tuple[int, int]] = []
        serials: list[object] = []
        seen: set[int] = set()
        for index in self.alive():
            ours, real = self.model.tasks[index], self.linux.tasks[index]
            entries = entries_of(ours, serials, seen)
            observed = real.observe()
            if entries != observed:
                self._compare(f"table of task {index}", _readable(entries), _readable(observed))
            places += [(real.pid, entry.number) for entry in observed if entry.same == entry.number]
        if len(self.model.tasks) > 1 and places:
            first: dict[object, int] = {}
            classes = [first.setdefault(serial, at) for at, serial in enumerate(serials)]
            self._compare(f"files of {places}", classes, self._kernel.agents.classes(places))


def _closes_a_cycle(comparison: Comparison, step: Step) -> bool:
    """Whether sockets travel to one that is itself in flight, or travels with them."""
    if step.call != "sendmsg":
        return False
    table = dict(comparison.model.tasks[step.task].files.items())
    peer = getattr(table.get(step.arguments[0]), "peer", None)
    sent = [
        table.get(number)
        for item in next(iter(step.arguments[2:3]), ())
        if isinstance(item, Rights)
        for number in item.numbers
    ]
    in_flight = comparison.model_kernel.in_flight.carries
    return peer is not None and (peer in sent or in_flight(peer))


def _registers_what_is_watched(comparison: Comparison, step: Step) -> bool:
    """Whether a ring gets files whose end somebody else can see."""
    if step.call not in ("io_uring_register_files", "io_uring_update"):
        return False
    table = dict(comparison.model.tasks[step.task].files.items())
    return any(table[number].can_poll for number in step.arguments[-1] if number in table)


KNOWN_GAPS = (
    Gap(
        "when cycles of sockets in flight are freed",
        "Linux looks for them in a worker, some time after a socket was closed; the model at once. "
        "tests/model/test_selftests_passing.py waits for Linux.",
        _closes_a_cycle,
    ),
    Gap(
        "when the files of a ring are let go of",
        "Linux takes a ring down in a worker, some time after its last descriptor was closed; the "
        "model at once.",
        _registers_what_is_watched,
    ),
)


def entries_of(task: Task, serials: list[object], seen: set[int]) -> tuple[Entry, ...]:
    """Observe a table of the model as an agent observes the kernel's; add the files that it shows."""
    first: dict[object, int] = {}
    entries = []
    for number, (file, cloexec) in task.table().items():
        if number >= BOUND:
            continue
        same = first.setdefault(file, number)
        if same == number:
            serials.append(file)
        try:
            status = task.fcntl(number, F_GETFL)
            position = task.lseek(number, 0, 1)
        except OSError as error:
            position = -(error.errno or 0)
        entries.append(Entry(number, same, int(cloexec), status, position))
    return tuple(entries)


def _readable(entries: Iterable[Entry]) -> str:
    return "\n".join(
        f"\n    {one.number}: file {one.same} cloexec={one.close_on_exec} status={one.status:#o} "
        f"position={one.position if one.position >= 0 else errno.errorcode[-one.position]}"
        for one in entries
    )


def random_program(
    agents: Agents,
    chooser: random.Random,
    calls: Sequence[str],
    steps: int,
) -> Counter[tuple[str, str]]:
    """Make a program up while it runs, of these calls.

    Returns:
        How often each call ended with which errno, or "ok".

    Raises:
        DifferenceError: model and kernel did not do the same.
    """
    limit = chooser.choice((6, 8, 12, 16, 16, 24))
    # A user of its own: what is in flight is counted per user, and other programs end late.
    user = chooser.randrange(100_000, 2**31 - 1)
    spawns = [Spawn(limit, chooser.choice((0, 0, user)))]
    if chooser.randrange(4) == 0:
        spawns.append(Spawn(limit))
    comparison = Comparison(agents, spawns)
    theme = chooser.choice(THEMES)
    weights = [CALLS[call][0] * (DWELLING if call in theme else 1) for call in calls]
    try:
        for _ in range(steps):
            alive = comparison.alive()
            if not alive:
                break
            task = chooser.choice(alive)
            call = chooser.choices(calls, weights)[0]
            if call in ("fork", "clone") and len(alive) >= MOST_TASKS:
                call = "exit"
            if call == "io_uring_setup" and comparison.outcomes[call, "ok"]:
                # The kernel's side knows the memory of one ring by whatever number.
                call = "io_uring_install"
            ours = comparison.model.tasks[task]
            draw = Draw(
                chooser,
                task,
                len(comparison.model.tasks),
                {number: type(file).__name__ for number, file in ours.files.items()},
                comparison.model.notified,
                limit,
                ours.process.hard,
                ours.uid,
            )
            made = step(draw, call)
            if any(call in found.calls for found in ours.filters):
                made = Step(task, "begin", (call, *made.arguments))
            comparison.step(made)
    finally:
        comparison.close()
    return comparison.outcomes


def replay(agents: Agents, program: Program) -> DifferenceError | None:
    """Run a program as it is written, and return the first difference."""
    comparison = Comparison(agents, program.spawns)
    try:
        for each in program.steps:
            comparison.step(each)
    except DifferenceError as difference:
        return difference
    finally:
        comparison.close()
    return None


def minimal(agents: Agents, found: DifferenceError) -> DifferenceError:
    """Leave out what a difference does not need: chunks of steps, then single ones."""
    steps = found.program.steps
    chunk = len(steps) // 2
    while chunk:
        start = 0
        while start < len(steps):
            shorter = Program(found.program.spawns, steps[:start] + steps[start + chunk :])
            again = replay(agents, shorter)
            if again is not None and again.what.split("(")[0] == found.what.split("(")[0]:
                found, steps = again, again.program.steps
            else:
                start += chunk
        chunk //= 2
    return found
