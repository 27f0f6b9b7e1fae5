"""Reserve, build, publish and close in this process."""

import os
import time
from collections.abc import Callable

import fdproof
from benchmarks.compiled import Compiled
from benchmarks.measure import Budget, Contest, Contestant

__all__ = ["contest"]

_C = "the same system calls in C"


def contest(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest.

    Args:
        compiled: the C programs.
        quick: a few times only.
    """
    times = 200 if quick else 20_000
    return Contest(
        "publication",
        "reserve, build, publish, close (/dev/null)",
        (
            Contestant(_C, lambda: compiled.seconds("publish", [times])),
            Contestant(
                "fdproof.prepare, publish", lambda: _timed(_prepare, times), Budget(_C, 1.2)
            ),
            Contestant(
                "fdproof.reserve, build, publish", lambda: _timed(_reserve, times), Budget(_C, 1.2)
            ),
            Contestant(
                "os.open, os.open, os.dup2, os.close by hand", lambda: _timed(_by_hand, times)
            ),
        ),
    )


def _timed(step: Callable[[], None], times: int) -> float:
    for _ in range(times // 10):
        step()
    started = time.perf_counter()
    for _ in range(times):
        step()
    return (time.perf_counter() - started) / times


def _build() -> fdproof.Descriptor:
    return fdproof.open("/dev/null")


def _prepare() -> None:
    fdproof.prepare(_build).publish().close()


def _reserve() -> None:
    fdproof.reserve().build(_build).publish().close()


def _by_hand() -> None:
    """Hold a number, build, move the file there: what one writes without fdproof, with room for leaks."""
    number = os.open("/", os.O_PATH)
    try:
        built = os.open("/dev/null", os.O_RDONLY)
        try:
            os.dup2(built, number, inheritable=False)
        finally:
            os.close(built)
    finally:
        os.close(number)
