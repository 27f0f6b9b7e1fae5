"""Where each file of a child goes: moves in an order in which none overwrites what another still needs."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

__all__ = ["Move", "Places", "plan"]

# source, number, close-on-exec. Source and number equal: it stays. Number -1: put aside; source -1: what
# was put aside. At most one is aside at any time.
Move = tuple[int, int, bool]

_STANDARD = (0, 1, 2)
_ASIDE = -1


@dataclass(frozen=True, slots=True)
class Places:
    """The moves, the numbers that are open afterwards (sorted), and the highest of all numbers named.

    ``channel`` is where the channel went, or -1.
    """

    moves: tuple[Move, ...]
    kept: tuple[int, ...]
    highest: int
    channel: int


def plan(files: Mapping[int, int], channel: int | None = None) -> Places:
    """Order the moves that bring every source to its number, cycles and overlaps included.

    Args:
        files: for each number in the child, the number in this process.
        channel: a number that the child needs until its exec, at any place.

    Returns:
        The plan. The standard numbers that it does not name stay as they are.
    """
    wanted = dict(files)
    private = -1
    if channel is not None:
        private = next(number for number in count(3) if number not in wanted)
        wanted[private] = channel
    moves = [
        (source, number, number == private) for number, source in wanted.items() if number == source
    ]
    pending = {number: source for number, source in wanted.items() if number != source}
    readers = Counter(pending.values())
    free = [number for number in pending if not readers[number]]
    while pending:
        while free:
            number = free.pop()
            source = pending.pop(number)
            moves.append((source, number, number == private))
            readers[source] -= 1
            if source in pending and not readers[source]:
                free.append(source)
        if pending:
            # INVARIANT: only closed cycles are left, so each number in them is read exactly once, all of
            # them are open, and a free number to put one aside is none of them.
            number = next(iter(pending))
            reader = next(other for other, source in pending.items() if source == number)
            moves.append((number, _ASIDE, True))
            pending[reader] = _ASIDE
            readers[number] -= 1
            readers[_ASIDE] += 1
            free.append(number)
    kept = sorted({*_STANDARD, *wanted})
    return Places(tuple(moves), tuple(kept), max(*kept, *wanted.values(), 0), private)
