"""Small programs of supervised calls, forks and threads, and what they must be seen to do."""

import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

CALLS: dict[str, Callable[[], object]] = {
    "getsid": lambda: os.getsid(0),
    "getpgid": lambda: os.getpgid(0),
    "umask": lambda: os.umask(0o22),
}


@dataclass(frozen=True)
class Branch:
    """A child or a thread that runs a program of its own."""

    kind: str
    body: tuple["Step", ...]


Step = str | Branch
Program = tuple[Step, ...]

programs: st.SearchStrategy[Program] = st.recursive(
    st.lists(st.sampled_from(sorted(CALLS)), max_size=5).map(tuple),
    lambda body: st.lists(
        st.sampled_from(sorted(CALLS))
        | st.builds(Branch, st.sampled_from(["fork", "thread"]), body),
        max_size=4,
    ).map(tuple),
    max_leaves=6,
)


def perform(program: Program, *, together: bool) -> None:
    """Do what the program says; only in a target, its branches one after the other, or together."""
    # Newer Pythons warn of a fork beside threads, which is what is wanted here.
    warnings.simplefilter("ignore", DeprecationWarning)
    joins: list[Callable[[], object]] = []
    for step in program:
        if isinstance(step, str):
            CALLS[step]()
            continue
        joins.append(_begin(step, together))
        if not together:
            joins.pop()()
    for join in joins:
        join()


def _begin(branch: Branch, together: bool) -> Callable[[], object]:
    if branch.kind == "thread":
        thread = threading.Thread(target=lambda: perform(branch.body, together=together))
        thread.start()
        return thread.join
    pid = os.fork()
    if pid == 0:
        perform(branch.body, together=together)
        os._exit(0)
    return lambda: os.waitpid(pid, 0)


@dataclass
class Expectation:
    """The calls of each task, and of all in order if branches run one after the other."""

    tasks: list[Counter[str]] = field(default_factory=list)
    order: list[tuple[int, str, int]] = field(default_factory=list)
    indexes: dict[int, int] = field(default_factory=dict)

    def follow(self, program: Program) -> "Expectation":
        """Add what a task that runs this program does."""
        counts: Counter[str] = Counter()
        me = len(self.tasks)
        self.tasks.append(counts)
        for step in program:
            if isinstance(step, Branch):
                self.follow(step.body)
                continue
            counts[step] += 1
            # A task is known from its first call on; the root is known at once.
            index = 0 if me == 0 else self.indexes.setdefault(me, len(self.indexes) + 1)
            self.order.append((index, step, counts[step]))
        return self
