"""A parent of a given shape that starts a program in several ways.

Run as a program, it does what each line of its input says: the name of a way, and how often.
"""

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

from fdproof import process

__all__ = ["WAYS"]

_Way = Callable[[list[str], int], float]


def _warming(times: int) -> int:
    """Return how often to do it before the clock starts: other turns have emptied the caches."""
    return max(1, times // 10)


def _timed(once: Callable[[list[str]], object]) -> _Way:
    def run(command: list[str], times: int) -> float:
        for _ in range(_warming(times)):
            once(command)
        started = time.perf_counter()
        for _ in range(times):
            once(command)
        return (time.perf_counter() - started) / times

    return run


def _prepare(command: list[str]) -> int:
    with process.prepare(command) as child:
        return child.publish().wait()


def _posix_spawn(command: list[str]) -> None:
    os.waitpid(os.posix_spawn(command[0], command, os.environ), 0)


def _asyncio(command: list[str], times: int) -> float:
    async def once() -> None:
        child = await asyncio.create_subprocess_exec(*command)
        await child.wait()

    async def run() -> float:
        for _ in range(_warming(times)):
            await once()
        started = time.perf_counter()
        for _ in range(times):
            await once()
        return (time.perf_counter() - started) / times

    return asyncio.run(run())


WAYS: dict[str, _Way] = {
    "spawn": _timed(lambda command: process.spawn(command).wait()),
    "prepare": _timed(_prepare),
    "popen": _timed(lambda command: subprocess.Popen(command).wait()),
    "posix_spawn": _timed(_posix_spawn),
    "asyncio": _asyncio,
}


def _shape(mebibytes: int, descriptors: int) -> tuple[bytearray, list[int]]:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    numbers = [os.open(os.devnull, os.O_RDONLY) for _ in range(descriptors)]
    memory = bytearray(mebibytes << 20)
    # A page that was never written is not there.
    memory[::4096] = b"x" * len(memory[::4096])
    return memory, numbers


if __name__ == "__main__":
    _held = _shape(int(sys.argv[1]), int(sys.argv[2]))
    for _line in sys.stdin:
        _name, _times = _line.split()
        print(f"{WAYS[_name](sys.argv[3:], int(_times)):.12f}", flush=True)
