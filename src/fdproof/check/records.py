"""The plain records that travel between planning, running and judging.

All of them are frozen and can be pickled: a run may happen on another machine.
"""

from dataclasses import dataclass, field
from enum import Enum

from fdproof.observe.snapshot import Entry

__all__ = [
    "End",
    "Exec",
    "Fault",
    "Finding",
    "Frame",
    "Left",
    "Outcome",
    "Point",
    "PointKey",
    "Report",
    "Request",
    "Round",
    "Verdict",
]


@dataclass(frozen=True, slots=True, order=True)
class PointKey:
    """Which call of an operation: the task in its tree, the system call, and how many-th of its kind.

    The root is task "0", its first child "0.1", its first thread "0.t1": tree positions, not numbers,
    because threads and children interleave differently in every run.
    """

    task: str
    call: str
    occurrence: int

    def __str__(self) -> str:
        nth = f"{self.call} #{self.occurrence}"
        return nth if self.task == "0" else f"{nth} in task {self.task}"


@dataclass(frozen=True, slots=True)
class Point:
    """One system call that an operation makes, and the errnos that it can realistically get.

    ``on`` says what the descriptor that it acts on refers to, where it acts on one.
    """

    key: PointKey
    errnos: tuple[str, ...]
    on: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """A point, and the errno that it gets."""

    key: PointKey
    errno: str

    def __str__(self) -> str:
        return f"{self.key} fails with {self.errno}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a Python stack, innermost first."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class Exec:
    """What would survive an exec although nobody asked for it."""

    task: str
    program: str
    survivors: tuple[Entry, ...]


class End(Enum):
    """How a run came to its end."""

    RETURNED = "returned"
    EXITED = "exited"
    KILLED = "killed"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class Round:
    """The table when the operation ended, and after garbage collection.

    ``before``, ``after`` and ``collected`` are compared by number; ``replaced`` are the numbers that
    were open before and mean another file now. ``raised`` is the exception that came out, if one did.
    """

    after: tuple[Entry, ...]
    collected: tuple[Entry, ...]
    gone: tuple[Entry, ...] = ()
    replaced: tuple[Entry, ...] = ()
    raised: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of an operation left behind.

    ``rounds`` has one record for each time the operation came to its end in this run. ``status`` is
    the exit status of the root (negative: the signal). ``waiting`` is where a run that hung stood when its
    time ``limit`` was over, in seconds.
    """

    fault: Fault | None
    reached: int
    end: End
    status: int | None
    rounds: tuple[Round, ...]
    execs: tuple[Exec, ...] = ()
    stderr: str = ""
    points: tuple[Point, ...] = ()
    calls: int = 0
    made_by: tuple[tuple[int, PointKey], ...] = ()
    stacks: tuple[tuple[PointKey, tuple[Frame, ...]], ...] = ()
    waiting: tuple[Frame, ...] = ()
    limit: float = 0.0
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Request:
    """One run to make.

    Args:
        fault: what fails; None for a clean run.
        rounds: how often the operation runs in the same process.
        record: return the points.
        attribute: tell which call made each number that is left over.
        stacks: points at which the Python stack is taken; costs tenths of a second for each.
        timeout: seconds until the run counts as hung.
        only: supervise this system call alone of those that can fail; None for all of them.
    """

    fault: Fault | None = None
    rounds: int = 1
    record: bool = False
    attribute: bool = False
    stacks: frozenset[PointKey] = frozenset()
    timeout: float = 10.0
    only: str | None = None


class Verdict(Enum):
    """What a finding says."""

    LEAK = "leak"
    LOST = "lost"
    CRASH = "crash"
    HANG = "hang"
    SURVIVES_EXEC = "survives exec"


@dataclass(frozen=True, slots=True)
class Left:
    """A descriptor that a finding is about, and the call that made it, as far as it is known."""

    entry: Entry
    made: PointKey | None = None
    stack: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """What a fault brought to light, with its evidence.

    ``fault`` is None where no fault was needed. ``stack`` is where the faulted call was made,
    ``waiting`` where an operation that hangs stands.
    """

    verdict: Verdict
    fault: Fault | None
    left: tuple[Left, ...] = ()
    detail: str = ""
    stack: tuple[Frame, ...] = ()
    waiting: tuple[Frame, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a sweep.

    ``not_reached`` are faults whose point did not come up in their run: they are not passed.
    ``kept`` are faults after which something stayed open once, but not once more on the second time:
    a cache, not a leak. ``unsteady`` are faults whose other findings did not come up a second time.
    """

    operation: str
    kind: str
    points: tuple[Point, ...]
    calls: int
    faults: int
    planned: int
    findings: tuple[Finding, ...]
    not_reached: tuple[Fault, ...]
    kept: tuple[Fault, ...]
    unsteady: tuple[Fault, ...]
    interrupted: bool
    seconds: float
    kernel: str
    python: str
