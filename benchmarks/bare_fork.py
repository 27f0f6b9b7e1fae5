"""The limit for the sweep of a function: fork, operation, exit, wait, and nothing else.

Started as a program, with the number of runs: it has loaded what the stage of a sweep has loaded.
"""

import gc
import os
import sys
import time

import fdproof.check.stage
from benchmarks.operation import read_seven_files

__all__ = ["seconds_per_run"]

# What makes the two processes the same size is that this one has the stage's modules, too.
_STAGE = fdproof.check.stage.main


def seconds_per_run(times: int) -> float:
    """Fork and wait, many times.

    Args:
        times: how often.
    """
    read_seven_files()
    gc.collect()
    gc.freeze()
    started = time.perf_counter()
    for _ in range(times):
        pid = os.fork()
        if pid == 0:
            read_seven_files()
            os._exit(0)
        os.waitpid(pid, 0)
    return (time.perf_counter() - started) / times


if __name__ == "__main__":
    print(f"{seconds_per_run(int(sys.argv[1])):.12f}")
