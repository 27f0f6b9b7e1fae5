"""Send descriptors over a pair of sockets, receive them, and close them.

1 and 200 in a message, and 1 while another thread computes.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from multiprocessing import reduction

import fdproof
from benchmarks.compiled import Compiled
from benchmarks.measure import Budget, Contest, Contestant
from fdproof import passing

__all__ = ["beside_a_thread", "of_many", "of_one"]

_C = "C: sendmsg, recvmsg, close"
_PASSING = "fdproof.passing.send, receive, close"
_SOCKET = "socket.send_fds, recv_fds, os.close"
_REDUCTION = "multiprocessing.reduction, os.close"


def of_one(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest with one descriptor a message.

    Args:
        compiled: the C programs.
        quick: a few times only.
    """
    return _contest("pass-1", 1, 200 if quick else 20_000, compiled)


def of_many(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest with 200 descriptors a message; arguments as for ``of_one``."""
    return _contest("pass-200", 200, 20 if quick else 1_000, compiled)


def beside_a_thread(compiled: Compiled, *, quick: bool) -> Contest:
    """Return the contest with one descriptor a message while another Python thread computes.

    Arguments as for ``of_one``.
    """
    scene = _Scene(1)
    seconds = 0.1 if quick else 0.5
    behind = Budget(_PASSING, at_least=1)
    return Contest(
        "pass-busy",
        "pass 1 descriptor in one message, beside a thread that computes",
        (
            Contestant(_PASSING, partial(_busy_seconds, scene.passing, seconds)),
            Contestant(_SOCKET, partial(_busy_seconds, scene.socket, seconds), behind),
            Contestant(_REDUCTION, partial(_busy_seconds, scene.reduction, seconds), behind),
        ),
        close=scene.close,
    )


def _contest(name: str, count: int, times: int, compiled: Compiled) -> Contest:
    scene = _Scene(count)
    behind = Budget(_PASSING, at_least=1)
    return Contest(
        name,
        f"pass {count} descriptor{'s' if count != 1 else ''} in one message",
        (
            Contestant(_C, lambda: compiled.seconds("passing", [times, count])),
            Contestant(_PASSING, partial(_seconds, scene.passing, times), Budget(_C, 1.3)),
            Contestant(_SOCKET, partial(_seconds, scene.socket, times), behind),
            Contestant(_REDUCTION, partial(_seconds, scene.reduction, times), behind),
        ),
        unit=(count, "descriptors"),
        close=scene.close,
    )


class _Scene:
    """A pair of sockets, files to send, and the ways to do it, each as a loop of its own.

    A call for every turn would count as time of the message.

    Args:
        count: how many files there are.
    """

    def __init__(self, count: int) -> None:
        self._owners = ExitStack()
        self._near, self._far = map(self._owners.enter_context, socket.socketpair())
        self._files = [self._owners.enter_context(fdproof.open("/dev/null")) for _ in range(count)]
        self._numbers = [file.fileno() for file in self._files]

    def passing(self, times: int) -> None:
        near, far, files, count = self._near, self._far, self._files, len(self._files)
        for _ in range(times):
            passing.send(near, b"x", files)
            passing.receive(far, 1, count).close()

    def socket(self, times: int) -> None:
        near, far, numbers, count = self._near, self._far, self._numbers, len(self._numbers)
        for _ in range(times):
            socket.send_fds(near, [b"x"], numbers)
            for number in socket.recv_fds(far, 1, count)[1]:
                os.close(number)

    def reduction(self, times: int) -> None:
        near, far, numbers, count = self._near, self._far, self._numbers, len(self._numbers)
        for _ in range(times):
            reduction.sendfds(near, numbers)
            for number in reduction.recvfds(far, count):
                os.close(number)

    def close(self) -> None:
        self._owners.close()


def _seconds(loop: Callable[[int], None], times: int) -> float:
    loop(times // 10)
    started = time.perf_counter()
    loop(times)
    return (time.perf_counter() - started) / times


def _busy_seconds(loop: Callable[[int], None], seconds: float) -> float:
    """Measure for a time: whose turn it is changes every few milliseconds, which a short run may miss."""
    done = False

    def compute() -> None:
        while not done:
            pass

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        times = 0
        started = time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            loop(10)
            times += 10
        return passed / times
    finally:
        done = True
        thread.join()
