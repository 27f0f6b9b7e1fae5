"""Start a program and wait for its end, from parents of three shapes.

Each shape is a C and a Python process that lives as long as the contest and does one turn for each
line that it is sent, so that everybody meets the same parent and the turns still alternate.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

from benchmarks import parent
from benchmarks.compiled import Compiled
from benchmarks.measure import Budget, Contest, Contestant

__all__ = ["from_large", "from_many", "from_small"]

_COMMAND = "/bin/true"
_VFORK = "C: vfork, close_range, execve, waitid"
_SPAWN = "fdproof.process.spawn, wait"


def from_small(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest from a parent with nothing special.

    Args:
        compiled: the C programs.
        quick: a few times only.
    """
    return _contest("spawn", "small parent", (0, 0), compiled, quick)


def from_large(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest from a parent with much memory; arguments as for ``from_small``."""
    mebibytes = 16 if quick else 2048
    told = f"parent with {mebibytes} MiB of touched memory"
    return _contest("spawn-memory", told, (mebibytes, 0), compiled, quick)


def from_many(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest from a parent with many open files; arguments as for ``from_small``."""
    count = 100 if quick else 10_000
    told = f"parent with {count:,} open descriptors"
    return _contest("spawn-descriptors", told, (0, count), compiled, quick)


class _Parent:
    """A process that starts programs for us; it begins with its first turn.

    Args:
        start: returns its command line.
    """

    def __init__(self, start: Callable[[], list[str]]) -> None:
        self._start = start
        self._process: subprocess.Popen[str] | None = None

    def seconds(self, way: str, times: int) -> float:
        """Let it have a turn."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._start(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(way, times, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args!r} ended (status {self._process.wait()})")
        return float(answer)

    def close(self) -> None:
        """End it: it sees the end of its input."""
        if self._process is not None:
            self._process.communicate()


def _contest(
    name: str, title: str, shape: tuple[int, int], compiled: Compiled, quick: bool
) -> Contest:
    times = 3 if quick else 200
    arguments = [*map(str, shape), _COMMAND]
    in_c = _Parent(lambda: [compiled.program("parent"), *arguments])
    in_python = _Parent(lambda: [sys.executable, "-m", parent.__name__, *arguments])
    # A prepared child copies the page tables, which takes its time in a large parent.
    prepared = max(times // 10, 2) if shape[0] else times
    behind = Budget(_SPAWN, at_least=1)

    def contestant(
        told: str, one: _Parent, way: str, budget: Budget | None = None, times: int = times
    ) -> Contestant:
        return Contestant(told, partial(one.seconds, way, times), budget)

    def close() -> None:
        in_c.close()
        in_python.close()

    return Contest(
        name,
        f"spawn and wait ({_COMMAND}), {title}",
        (
            contestant(_VFORK, in_c, "vfork"),
            contestant("C: clone with a pidfd and a shared table", in_c, "clone"),
            contestant(_SPAWN, in_python, "spawn", Budget(_VFORK, 1.1)),
            contestant(
                "fdproof.process.prepare, publish, wait", in_python, "prepare", None, prepared
            ),
            contestant("os.posix_spawn, os.waitpid", in_python, "posix_spawn", behind),
            contestant("subprocess.Popen, wait", in_python, "popen", behind),
            contestant("asyncio.create_subprocess_exec, wait", in_python, "asyncio", behind),
        ),
        close=close,
    )
