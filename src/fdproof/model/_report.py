"""What an exploration found: records, and the page that a person reads."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Failure", "Finding", "Problem", "Report", "Step"]


class Problem(StrEnum):
    """What can be wrong with a run; the value is how a report says it."""

    DESCRIPTOR_LEFT = "descriptor left open"
    NUMBER_LEFT = "number left reserved"
    FILE_LEFT = "file left behind"
    DANGLING = "reference to a file that may be gone"
    MISUSE = "misuse"
    INVARIANT = "invariant broken"
    CRASH = "crash"
    DEADLOCK = "deadlock"
    ENDLESS = "no end"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong after a run, or that ended it."""

    problem: Problem
    detail: str

    def __str__(self) -> str:
        return f"{self.problem}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a schedule.

    Args:
        thread: whose, counted from 0 in the order of the programs.
        call: name and arguments.
        outcome: what it returned or raised.
        fault: the fallible step in it that was made to fail, empty if none was.
    """

    thread: int
    call: str
    outcome: str
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A run after which something is wrong, and how to come there.

    Args:
        findings: what is wrong.
        steps: the calls of all threads, in order.
        faults: how many steps were made to fail.
        threads: how many there are, also if not all came to a step.
    """

    findings: tuple[Finding, ...]
    steps: tuple[Step, ...]
    faults: int
    threads: int = 1

    @property
    def problems(self) -> frozenset[Problem]:
        """What kinds of things are wrong."""
        return frozenset(finding.problem for finding in self.findings)

    @property
    def switches(self) -> int:
        """How often another thread goes on."""
        return sum(
            one.thread != other.thread
            for one, other in zip(self.steps, self.steps[1:], strict=False)
        )

    @property
    def length(self) -> tuple[int, int, int]:
        """What makes one schedule shorter than another: faults, then switches of thread, then calls."""
        return self.faults, self.switches, len(self.steps)

    def __str__(self) -> str:
        return "\n".join([*self._schedule(), *(str(finding) for finding in self.findings)])

    def _schedule(self) -> Iterator[str]:
        width = max((len(step.call) for step in self.steps), default=0)
        for number, step in enumerate(self.steps, 1):
            who = f"thread {step.thread}  " if self.threads > 1 else ""
            why = f"  (made to fail: {step.fault})" if step.fault else ""
            yield f"{number:3}  {who}{step.call:{width}}  {step.outcome}{why}".rstrip()


@dataclass(slots=True)
class Report:
    """What an exploration saw.

    Args:
        threads: how many took turns.
        runs: runs to the end, each on a path of its own.
        cut: runs that were left, because what they had still to show another one shows.
        faulted: those of the runs in which a step was made to fail.
        failing: those of the runs after which something is wrong.
        problems: in how many runs each kind of problem was found.
        failures: for each combination of problems that was seen, the shortest run that has it; the
            shortest of all is the first.
        complete: every path was walked; False where ``max_runs`` ended the exploration.
    """

    threads: int
    runs: int = 0
    cut: int = 0
    faulted: int = 0
    failing: int = 0
    problems: Counter[Problem] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    complete: bool = False

    @property
    def shortest(self) -> Failure | None:
        """The failing run with the fewest faults, then switches of thread, then calls; None if none fails."""
        return self.failures[0] if self.failures else None

    def __bool__(self) -> bool:
        """Tell whether all paths were walked and none fails."""
        return self.complete and not self.failing

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def add(self, failure: Failure) -> None:
        """Count a failing run, and keep it if it is the shortest of its kind."""
        self.failing += 1
        self.problems.update(failure.problems)
        others = [one for one in self.failures if one.problems != failure.problems]
        same = [one for one in self.failures if one.problems == failure.problems]
        best = min([*same, failure], key=lambda one: one.length)
        self.failures = sorted([*others, best], key=lambda one: one.length)

    def _lines(self) -> Iterator[str]:
        of = f" of {self.threads} threads" if self.threads > 1 else ""
        cut = f", {self.cut} cut short" if self.cut else ""
        yield f"{_count(self.runs, 'path')}{of}, {self.faulted} with a fault{cut}"
        if not self.complete:
            yield "not complete: there are more paths (max_runs)"
        if not self.failures:
            yield "no path fails" + ("" if self.complete else " so far")
            return
        often = sorted(Problem, key=lambda problem: -self.problems[problem])
        kinds = ", ".join(
            f"{self.problems[problem]} x {problem}" for problem in often if self.problems[problem]
        )
        yield f"{_count(self.failing, 'path')} fail{'s' if self.failing == 1 else ''}: {kinds}"
        yield "the shortest:" if self.failing > 1 else "it is:"
        yield str(self.failures[0])


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
