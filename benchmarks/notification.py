"""A supervised call, answered: the target makes the same cheap call again and again.

Supervisor and target share one CPU in every line, because that is where the kernel's synchronous
wake-up keeps them, and because the scheduler's choice would otherwise be what is measured.
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator

from benchmarks.compiled import Compiled
from benchmarks.measure import Budget, Contest, Contestant
from fdproof import eventfd
from fdproof.notifier import Filter, spawn
from fdproof.notifier._loop import Loop, Stop

__all__ = ["contest"]

_C = "C: receive, resume"
_FILTER = Filter(["getppid"])
_TIME_LIMIT_SECONDS = 60.0


def contest(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest.

    Args:
        compiled: the C programs.
        quick: a few calls only.
    """
    times = 100 if quick else 20_000
    target = compiled.program("target")
    contestants = [
        Contestant(_C, lambda: _in_c(compiled, "receive", times, target)),
        Contestant("C: poll, receive, resume", lambda: _in_c(compiled, "poll", times, target)),
        Contestant(
            "the sweep's loop: counted, resumed", lambda: _loop(target, times), Budget(_C, 1.15)
        ),
        Contestant(
            "a Python handler: receive(), resume()", lambda: _handler(target, times), Budget(_C, 2)
        ),
    ]
    missing = []
    if shutil.which("strace"):
        contestants.append(Contestant("strace", lambda: _strace(target, max(10, times // 20))))
    else:
        missing.append("strace: not installed")
    return Contest("notification", "one supervised call", contestants, missing)


@contextlib.contextmanager
def _on_one_cpu() -> Iterator[None]:
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(usual)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def _in_c(compiled: Compiled, way: str, times: int, target: str) -> float:
    with _on_one_cpu():
        return compiled.seconds("supervise", [way, times, target])


def _loop(path: str, times: int) -> float:
    with (
        _on_one_cpu(),
        eventfd() as control,
        spawn(_FILTER, [path, str(times)]) as target,
    ):
        loop = Loop(target.listener, target.process, control, ())
        loop.counting = True
        deadline = time.monotonic() + _TIME_LIMIT_SECONDS
        # The first call comes back as that of an unknown task: the clock starts there, as in C.
        if loop.run(deadline) is not Stop.NEW_TASK:
            raise RuntimeError("the target made no call")
        started = time.perf_counter()
        loop.add_task(target.pid, 0)
        if loop.run(deadline) is not Stop.ENDED or loop.calls != times:
            raise RuntimeError(f"{loop.calls} calls instead of {times}")
        return (time.perf_counter() - started) / times


def _handler(path: str, times: int) -> float:
    with _on_one_cpu(), spawn(_FILTER, [path, str(times)]) as target:
        first = target.listener.receive()
        if first is None:
            raise RuntimeError("the target made no call")
        first.resume()
        started = time.perf_counter()
        for notification in target.listener:
            notification.resume()
        return (time.perf_counter() - started) / times


def _strace(path: str, times: int) -> float:
    command = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-e",
        "trace=getppid",
        "-o",
        os.devnull,
        path,
        str(times),
        "tell",
    ]
    with _on_one_cpu():
        return float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
