"""The model's table with few and with many open descriptors, beside what emulators have instead.

The same number of descriptors is used in both, spread over the whole table and in no order; one line
uses all of them, which is more than a processor's caches hold. The unit is one operation: an opening, a
closing, a replacement or a look-up.
"""

import errno
import os
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Protocol

from benchmarks.compiled import Compiled
from benchmarks.measure import Budget, Contest, Contestant
from fdproof.model import Kernel, Table, Task

__all__ = ["forks", "look_ups", "openings", "replacements"]

_FEW = 1_000
_MANY = 1_000_000
_FORKED = 100_000
# A prime, so that its multiples come to every number once before they come to the first again.
_STRIDE = 611_953


class _Numbers(Protocol):
    """What is measured of a table."""

    def add(self, file: object, /) -> int: ...
    def remove(self, number: int, /) -> object: ...
    def replace(self, number: int, file: object, /) -> object: ...
    def lookup(self, number: int, /) -> object: ...
    def copy(self) -> "_Numbers": ...


class _ListScan:
    """A list with None where nothing is open, searched from the front, as most emulators have it."""

    def __init__(self) -> None:
        self.files: list[object] = []

    def add(self, file: object) -> int:
        try:
            number = self.files.index(None)
        except ValueError:
            self.files.append(file)
            return len(self.files) - 1
        self.files[number] = file
        return number

    def remove(self, number: int) -> object:
        file = self.lookup(number)
        self.files[number] = None
        return file

    def replace(self, number: int, file: object) -> object:
        self.files += [None] * (number + 1 - len(self.files))
        old, self.files[number] = self.files[number], file
        return old

    def lookup(self, number: int) -> object:
        if 0 <= number < len(self.files) and (file := self.files[number]) is not None:
            return file
        raise OSError(errno.EBADF, "not open")

    def copy(self) -> "_ListScan":
        copy = _ListScan()
        copy.files = self.files.copy()
        return copy


class _DictMin:
    """A dict of what is open; the lowest free number is the min() of those that are not in it."""

    def __init__(self) -> None:
        self.files: dict[int, object] = {}

    def add(self, file: object) -> int:
        number = min(set(range(len(self.files) + 1)) - self.files.keys())
        self.files[number] = file
        return number

    def remove(self, number: int) -> object:
        try:
            return self.files.pop(number)
        except KeyError:
            raise OSError(errno.EBADF, "not open") from None

    def replace(self, number: int, file: object) -> object:
        old = self.files.get(number)
        self.files[number] = file
        return old

    def lookup(self, number: int) -> object:
        try:
            return self.files[number]
        except KeyError:
            raise OSError(errno.EBADF, "not open") from None

    def copy(self) -> "_DictMin":
        copy = _DictMin()
        copy.files = self.files.copy()
        return copy


_Step = Callable[[_Numbers, Sequence[int], object], None]


def openings(compiled: Compiled, *, quick: bool) -> Contest:
    """Close a descriptor and open one, which gets the same number: the only one that is free.

    Args:
        compiled: not used; no C takes part.
        quick: a few times only, with fewer descriptors.
    """
    return _contest("model-open", "close, open", _open_and_close, 2, quick, searches=True)


def replacements(compiled: Compiled, *, quick: bool) -> Contest:
    """Put a file at a number that is open."""
    return _contest("model-replace", "dup2", _replace, 1, quick)


def look_ups(compiled: Compiled, *, quick: bool) -> Contest:
    """Find the file behind a number."""
    return _contest("model-lookup", "look up", _look_up, 1, quick)


def forks(compiled: Compiled, *, quick: bool) -> Contest:
    """Copy a table."""
    size = 1_000 if quick else _FORKED
    return Contest(
        "model-fork",
        f"model: copy a table with {size:,} descriptors",
        [
            Contestant("model.Table", partial(_copying, _filled(Table, size))),
            Contestant(_SCAN, partial(_copying, _filled(_ListScan, size))),
            Contestant(_MIN, partial(_copying, _filled(_DictMin, size))),
            Contestant("model.Task.fork(), references counted", partial(_forking, _parent(size))),
        ],
    )


_SCAN = "a list scan"
_MIN = "a dict and min()"


def _contest(
    name: str, title: str, step: _Step, operations: int, quick: bool, *, searches: bool = False
) -> Contest:
    few, many = (100, 1_000) if quick else (_FEW, _MANY)

    def entrant(
        what: str,
        kind: Callable[[], _Numbers],
        size: int,
        *,
        among: int = few,
        times: int = 100_000,
        budget: Budget | None = None,
    ) -> Contestant:
        table = _filled(kind, size)
        numbers = [at * _STRIDE % among * (size // among) for at in range(min(times, 100 * few))]
        return Contestant(
            f"{what}, {size:,} open{'' if among < size or size == few else ', all over it'}",
            lambda: _timed(step, table, numbers) / operations,
            budget,
        )

    first = entrant("model.Table", Table, few)
    return Contest(
        name,
        f"model: {title}",
        [
            first,
            entrant("model.Table", Table, many, budget=Budget(first.name, 2)),
            entrant("model.Table", Table, many, among=many),
            entrant(_SCAN, _ListScan, few),
            # Where they search through a million for each opening, a few times have to do.
            entrant(_SCAN, _ListScan, many, times=20 if searches else 100_000),
            entrant(_MIN, _DictMin, few, times=500 if searches else 100_000),
            entrant(_MIN, _DictMin, many, times=3 if searches else 100_000),
        ],
    )


@cache
def _filled(kind: Callable[[], _Numbers], size: int) -> _Numbers:
    """Return a table with so many open; all contests use the same one, and leave it as it was."""
    table = kind()
    file = object()
    for number in range(size):
        table.replace(number, file)
    return table


def _timed(step: _Step, table: _Numbers, numbers: Sequence[int]) -> float:
    file = object()
    started = time.perf_counter()
    step(table, numbers, file)
    return (time.perf_counter() - started) / len(numbers)


def _copying(table: _Numbers) -> float:
    started = time.perf_counter()
    table.copy()
    return time.perf_counter() - started


def _parent(size: int) -> Task:
    task = Kernel().spawn(rlimit_nofile=size)
    for number in range(task.memfd_create("file") + 1, size):
        task.dup2(0, number)
    return task


def _forking(task: Task) -> float:
    started = time.perf_counter()
    child = task.fork()
    seconds = time.perf_counter() - started
    child.exit()
    task.waitid(os.P_ALL, 0, os.WEXITED)
    return seconds


def _open_and_close(table: _Numbers, numbers: Sequence[int], file: object) -> None:
    for number in numbers:
        table.remove(number)
        table.add(file)


def _replace(table: _Numbers, numbers: Sequence[int], file: object) -> None:
    for number in numbers:
        table.replace(number, file)


def _look_up(table: _Numbers, numbers: Sequence[int], file: object) -> None:
    for number in numbers:
        table.lookup(number)
