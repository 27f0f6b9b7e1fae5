"""Run random programs on the model and on the running kernel, until so many steps agreed.

    python -m tests.model.prove --steps 1000000

prints how far it is, then what was compared, and the errnos that were met, call by call. The
first difference ends it, with the shortest program that shows it.
"""

import argparse
import os
import platform
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.model.differential import DifferenceError, minimal, random_program
from tests.model.linux.agents import started
from tests.model.vocabulary import CALLS

__all__ = ["compared"]

STEPS_OF_A_PROGRAM = 60
PROGRAMS_OF_A_BATCH = 200

Outcomes = Counter[tuple[str, str]]


def compared(seeds: range, steps: int = STEPS_OF_A_PROGRAM) -> Outcomes:
    """Run a program for each seed.

    Returns:
        How often each call ended with which errno, or "ok".

    Raises:
        DifferenceError: the first one, made minimal.
    """
    outcomes: Outcomes = Counter()
    with started() as agents, agents.pinned():
        for seed in seeds:
            try:
                outcomes += random_program(agents, random.Random(seed), tuple(CALLS), steps)
            except DifferenceError as difference:
                raise minimal(agents, difference) from None
    return outcomes


def _batch(first: int) -> Outcomes | str:
    seeds = range(first, first + PROGRAMS_OF_A_BATCH)
    # Each worker on a processor of its own, and the tasks with it.
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) > 1:
        os.sched_setaffinity(0, {processors[first // PROGRAMS_OF_A_BATCH % len(processors)]})
    try:
        return compared(seeds)
    except DifferenceError as difference:
        return str(difference)
    finally:
        os.sched_setaffinity(0, processors)


def table(outcomes: Outcomes) -> Iterator[str]:
    """Lay out which errno was met how often, call by call."""
    for call in CALLS:
        met = {how: count for (name, how), count in outcomes.items() if name == call}
        ok = met.pop("ok", 0)
        errors = " ".join(f"{error}:{met[error]}" for error in sorted(met))
        yield f"{call:26} {ok:8}  {errors}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000, help="how many must agree")
    parser.add_argument("--seed", type=int, default=0, help="of the first program")
    options = parser.parse_args()
    outcomes: Outcomes = Counter()
    done, seed, began, told = 0, options.seed, time.monotonic(), 0.0
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers) as pool:
        while done < options.steps:
            seeds = [seed + PROGRAMS_OF_A_BATCH * index for index in range(4 * workers)]
            seed = seeds[-1] + PROGRAMS_OF_A_BATCH
            for found in pool.map(_batch, seeds):
                if isinstance(found, str):
                    print(found, file=sys.stderr)
                    return 1
                outcomes += found
            done = outcomes.total()
            if time.monotonic() - told > 5:
                told = time.monotonic()
                print(f"{done:,} steps", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(*table(outcomes), sep="\n")
    print(
        f"\n{done:,} steps agreed in {seconds:.0f} s ({done / seconds:,.0f}/s): "
        f"Linux {platform.release()}, {workers} processors, CPython {platform.python_version()}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
