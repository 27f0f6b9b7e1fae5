"""Run a program on the model with every fallible step failing in turn, in every interleaving."""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from fdproof.model._audit import audit
from fdproof.model._caller import CALLS
from fdproof.model._failure import Misuse
from fdproof.model._footprint import Footprint, footprint
from fdproof.model._interleave import Deadlock, Endless, Interleaving, Outcome
from fdproof.model._kernel import Kernel
from fdproof.model._paths import Cut, Paths
from fdproof.model._pending import Pending
from fdproof.model._process import ProcessTable
from fdproof.model._report import Failure, Finding, Problem, Report, Step
from fdproof.model._spelling import result_of, spelling_of
from fdproof.model._task import Entry, Task

__all__ = ["Run", "explore"]

Program = Callable[[Task], object]
Setup = Callable[[], Task | Sequence[Task]]
Invariant = Callable[["Run"], object]

CLONE_VM, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD = 0x100, 0x400, 0x800, 0x10000
_THREAD = CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD


@dataclass(frozen=True, slots=True)
class Run:
    """What an invariant is given: the model after a run.

    Args:
        kernel: as the run has left it.
        tasks: those that the programs had, in order.
        results: what each program returned, None where it raised.
        errors: what each program raised, None where it returned.
    """

    kernel: Kernel
    tasks: tuple[Task, ...]
    results: tuple[Any, ...]
    errors: tuple[Exception | None, ...]


def explore(
    *programs: Program,
    setup: Setup | None = None,
    invariant: Invariant | None = None,
    faults: int = 1,
    reduce: bool = True,
    max_runs: int = 100_000,
    max_steps: int = 10_000,
) -> Report:
    """Run programs with every fallible step failing in turn, and in every interleaving of their calls.

    Each program is a thread: a function of a task, whose methods are the system calls. All are run again and
    again, each time on a fresh kernel, until every path has been walked. A path fails if after it a descriptor
    of a program's table is open that was not open before and that no program returned (a number, or a number
    in a tuple, list, set or dict); if a number is still reserved, or a file has references that nobody holds; if the inside
    functions were misused; if an assertion fails, in a program or in the invariant; if a program raises
    anything else but OSError; if all threads wait; or if there is no end.

    A call is one step, of a task as of its ``inside``; what a program does between two calls belongs to the
    first. A call that would wait is tried again when another thread has got on. Programs must depend on
    nothing but the model: no time, no random numbers, nothing kept from run to run. With ``reduce`` they
    must not tell each other anything past the model either: that two calls may change places is
    decided by the tables and files that they touch.

    Args:
        programs: one for each thread.
        setup: makes a kernel, sets the scene, and returns the task of each program; nothing fails in it.
            Without it the programs are the threads of a new process with an empty table.
        invariant: asserts, after each run, what must hold.
        faults: at most so many steps fail in one run; with 0 only interleavings are explored.
        reduce: of paths that differ only in the order of independent calls, walk one.
        max_runs: the exploration ends after so many runs, and the report is not complete.
        max_steps: a run with more calls has no end.

    Raises:
        ValueError: no program; not one task for each program; a bound that is too low.
        RuntimeError: with the same choices as before, a program did something else.
    """
    if not programs:
        raise ValueError("programs: give at least one")
    for name, value, least in (
        ("faults", faults, 0),
        ("max_runs", max_runs, 1),
        ("max_steps", max_steps, 1),
    ):
        if value < least:
            raise ValueError(f"{name}={value!r}: must be at least {least}")
    report = Report(len(programs))
    paths = Paths(faults, reduce)
    while report.runs + report.cut < max_runs:
        _Attempt(programs, setup, invariant, paths, max_steps).run(report)
        if not paths.next():
            report.complete = True
            break
    return report


class _Attempt:
    """One run: its tasks, and what they have done so far."""

    def __init__(
        self,
        programs: Sequence[Program],
        setup: Setup | None,
        invariant: Invariant | None,
        paths: Paths,
        max_steps: int,
    ) -> None:
        self._programs = programs
        self._invariant = invariant
        self._paths = paths
        self._turns = Interleaving(paths, max_steps)
        self._tasks = _tasks(setup, len(programs))
        self._kernel = self._tasks[0].kernel
        self._before = [task.table() for task in self._tasks]
        self._steps: list[Step] = []
        self._faults = 0
        self._misuses: list[str] = []
        self._in_call = False
        # The step that was made to fail in the call under way.
        self._fault = ""

    def run(self, report: Report) -> None:
        """Run all programs to their ends, and count what is wrong then."""
        self._paths.start()
        self._kernel.fault = self._fails
        try:
            findings = tuple(self._findings())
        except Cut:
            report.cut += 1
            return
        finally:
            self._kernel.fault = None
        report.runs += 1
        report.faulted += self._faults > 0
        if findings:
            report.add(Failure(findings, tuple(self._steps), self._faults, report.threads))

    def call(
        self,
        thread: int,
        task: Task,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Make a call of a thread when it is its turn, and note how it went."""
        if self._in_call:
            # A call within a call, as the build within fd_prepare: one step.
            return function(*arguments, **options)
        name = function.__name__
        spelling = spelling_of(name, arguments, options)

        def step() -> Any:
            self._fault = ""
            self._in_call = True
            try:
                result = function(*arguments, **options)
            except OSError as error:
                self._note(thread, spelling, errno.errorcode.get(error.errno or 0, str(error)))
                raise
            except Misuse as error:
                # A finding, whatever the program makes of it.
                self._misuses.append(str(error))
                self._note(thread, spelling, "Misuse")
                raise
            finally:
                self._in_call = False
            self._note(thread, spelling, result_of(result))
            return result

        def touched() -> Footprint:
            return footprint(task, name, arguments, options)

        return self._turns.call(thread, step, touched)

    def _note(self, thread: int, call: str, outcome: str) -> None:
        self._steps.append(Step(thread, call, outcome, self._fault))

    def _fails(self, step: str, number: int) -> bool:
        if not self._paths.fails():
            return False
        self._faults += 1
        self._fault = step
        return True

    def _findings(self) -> Iterator[Finding]:
        try:
            outcomes = self._turns.run(
                [self._bound(thread, program) for thread, program in enumerate(self._programs)]
            )
        except Deadlock as end:
            waiting = ", ".join(str(thread) for thread in end.threads)
            yield Finding(Problem.DEADLOCK, f"waiting for ever: {waiting}")
            return
        except Endless:
            yield Finding(Problem.ENDLESS, f"still running after {len(self._steps)} calls")
            return
        # What is looked at from here on is no part of the program.
        self._kernel.fault = None
        # The end of a system_call() block is no call, but may raise as well.
        ends = [str(one.error) for one in outcomes if isinstance(one.error, Misuse)]
        for message in dict.fromkeys([*self._misuses, *ends]):
            yield Finding(Problem.MISUSE, message)
        for outcome in outcomes:
            yield from _crashed(outcome)
        yield from self._left_open(outcomes)
        yield from audit(self._kernel)
        yield from self._broken(outcomes)

    def _bound(self, thread: int, program: Program) -> Callable[[], object]:
        task = self._tasks[thread]
        return lambda: program(cast("Task", _Watched(task, task, self, thread)))

    def _left_open(self, outcomes: Sequence[Outcome]) -> Iterator[Finding]:
        """What is open now and was not before, and is in no result."""
        # Threads share a table: whichever returns a number, and each descriptor is told once.
        before: dict[ProcessTable, dict[int, Entry]] = {}
        kept: dict[ProcessTable, set[int]] = {}
        for task, entries, outcome in zip(self._tasks, self._before, outcomes, strict=True):
            before.setdefault(task.files, entries)
            kept.setdefault(task.files, set()).update(_numbers(outcome.value))
        now = {task.files: task.table() for task in self._tasks}
        for table, entries in now.items():
            for number, entry in entries.items():
                if number not in kept[table] and before[table].get(number) != entry:
                    yield Finding(Problem.DESCRIPTOR_LEFT, str(number))

    def _broken(self, outcomes: Sequence[Outcome]) -> Iterator[Finding]:
        if self._invariant is None:
            return
        results = tuple(outcome.value for outcome in outcomes)
        errors = tuple(outcome.error for outcome in outcomes)
        try:
            self._invariant(Run(self._kernel, self._tasks, results, errors))
        except AssertionError as error:
            yield _assertion(error)


class _Watched:
    """A task, its inside, or a call that it began: what they do is done when it is their thread's turn."""

    def __init__(self, watched: object, task: Task, attempt: _Attempt, thread: int) -> None:
        self._watched = watched
        self._task = task
        self._attempt = attempt
        self._thread = thread

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._watched, name)
        if name == "inside":
            return _Watched(found, self._task, self._attempt, self._thread)
        # Of a task, what is no call is there to look at it.
        within = self._watched is not self._task and name != "system_call"
        if not ((within or name in CALLS or name == "begin") and callable(found)):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = self._attempt.call(self._thread, self._task, found, arguments, options)
            if isinstance(result, Task):
                # A child's calls are made by the program that made the child.
                return _Watched(result, result, self._attempt, self._thread)
            if isinstance(result, Pending):
                # To ask for its result is to wait for it.
                return _Watched(result, self._task, self._attempt, self._thread)
            return result

        return call


def _tasks(setup: Setup | None, count: int) -> tuple[Task, ...]:
    """Make the tasks of a run: those of the setup, or the threads of a new process."""
    if setup is None:
        first = Kernel().spawn()
        return (first, *(first.clone(_THREAD) for _ in range(count - 1)))
    made = setup()
    tasks = (made,) if isinstance(made, Task) else tuple(made)
    if len(tasks) != count:
        raise ValueError(
            f"setup: it made {len(tasks)} tasks for {count} programs; return one for each"
        )
    return tasks


def _crashed(outcome: Outcome) -> Iterator[Finding]:
    """A program may end with the error of a call; anything else is a mistake in it."""
    error = outcome.error
    if isinstance(error, AssertionError):
        yield _assertion(error)
    elif error is not None and not isinstance(error, (OSError, Misuse)):
        yield Finding(Problem.CRASH, f"{type(error).__name__}: {error}")


def _assertion(error: AssertionError) -> Finding:
    # A test runner may have added what the assertion compared.
    message = str(error).partition("\n")[0]
    return Finding(Problem.INVARIANT, message or "AssertionError")


def _numbers(result: object) -> Iterator[int]:
    """Yield the numbers in what a program returned."""
    if isinstance(result, int) and not isinstance(result, bool):
        yield result
    elif isinstance(result, dict):
        yield from _numbers(tuple(result.values()))
    elif isinstance(result, (tuple, list, set, frozenset)):
        for part in result:
            yield from _numbers(part)
