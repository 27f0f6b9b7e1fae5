"""The sweep of a function and of a command: seconds per fault, against bare runs and against strace."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks import bare_fork, operation
from benchmarks.compiled import Compiled
from benchmarks.measure import Budget, Contest, Contestant
from fdproof.check.operation import CallableOperation, CommandOperation, Operation
from fdproof.check.sweep import sweep

__all__ = ["of_callable", "of_command"]

_FUNCTION = "benchmarks.operation:read_seven_files"
_SWEEP = "fdproof check, per fault"


def of_callable(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest of sweeps of a function with some twenty points.

    Args:
        compiled: the C programs; none is needed here.
        quick: a few runs only.
    """
    bare = "os.fork, operation, os._exit, os.waitpid"
    script = [sys.executable, operation.__file__]
    contestants = [
        Contestant(
            bare,
            lambda: _printed([sys.executable, "-m", bare_fork.__name__, "5" if quick else "100"]),
        ),
        Contestant(_SWEEP, lambda: _per_fault(CallableOperation(_FUNCTION)), Budget(bare, 1.5)),
        Contestant(
            "  its start and clean runs included", lambda: _whole(CallableOperation(_FUNCTION))
        ),
    ]
    return _with_strace(
        "callable",
        f"sweep of a function ({3 * operation.FILES} calls)",
        contestants,
        script,
        "/etc/passwd",
        quick,
    )


def of_command(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest of sweeps of a command.

    Args:
        compiled: the C programs.
        quick: a few runs only.
    """
    cat = shutil.which("cat")
    assert cat is not None
    command = [cat, "/etc/hostname"]
    times = 5 if quick else 100
    bare = "C: vfork, exec, waitid"
    contestants = [
        Contestant(bare, lambda: compiled.seconds("spawn", ["vfork", times, *command])),
        Contestant(
            "C: posix_spawn, waitid",
            lambda: compiled.seconds("spawn", ["posix_spawn", times, *command]),
        ),
        Contestant(_SWEEP, lambda: _per_fault(CommandOperation(tuple(command))), Budget(bare, 1.3)),
        Contestant("os.posix_spawn, os.waitpid", lambda: _spawned(command, times)),
        Contestant("subprocess.run", lambda: _run(command, times)),
    ]
    return _with_strace(
        "command",
        "sweep of a command (cat /etc/hostname)",
        contestants,
        command,
        "/etc/hostname",
        quick,
    )


def _with_strace(
    name: str,
    title: str,
    contestants: list[Contestant],
    command: Sequence[str],
    file: str,
    quick: bool,
) -> Contest:
    if not shutil.which("strace"):
        return Contest(name, title, contestants, ["strace: not installed"])
    last = _last_opening(command, file)
    budget = Budget(_SWEEP, at_least=50) if name == "callable" else None
    contestants.append(
        Contestant(
            "strace -f -e inject=openat:error=EMFILE",
            lambda: _injected(command, last, 1 if quick else 3),
            budget,
        )
    )
    return Contest(name, title, contestants)


def _per_fault(what: Operation) -> float:
    """Sweep; from the first fault's end to the last one's, so that starting is left out."""
    ends: list[float] = []
    report = sweep(what, jobs=1, stacks=False, progress=lambda *_: ends.append(time.perf_counter()))
    # What the command does wrong by itself (cat leaves its file open when it cannot write) stays in
    # the measure: looking a second time before it is called a finding is part of the price.
    if report.faults != report.planned or len(ends) < 2:
        raise RuntimeError(f"{what}: {report.faults} of {report.planned} faults were run")
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def _whole(what: Operation) -> float:
    started = time.perf_counter()
    report = sweep(what, jobs=1, stacks=False)
    return (time.perf_counter() - started) / report.faults


def _printed(command: Sequence[str]) -> float:
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def _spawned(command: list[str], times: int) -> float:
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    started = time.perf_counter()
    for _ in range(times):
        os.waitpid(os.posix_spawn(command[0], command, os.environ, file_actions=silent), 0)
    return (time.perf_counter() - started) / times


def _run(command: Sequence[str], times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - started) / times


def _last_opening(command: Sequence[str], file: str) -> int:
    """Count the openat calls up to the last one of the operation's file."""
    with tempfile.NamedTemporaryFile(mode="r") as seen:
        subprocess.run(
            ["strace", "-f", "-e", "trace=openat", "-o", seen.name, *command],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        calls = [line for line in seen if re.search(r"\bopenat\(", line)]
    return max(index for index, line in enumerate(calls, 1) if f'"{file}"' in line)


def _injected(command: Sequence[str], last: int, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        subprocess.run(
            [
                "strace",
                "-f",
                "-o",
                os.devnull,
                "-e",
                "trace=openat",
                "-e",
                f"inject=openat:error=EMFILE:when={last}",
                *command,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    return (time.perf_counter() - started) / times
