"""The table of descriptors: numbers, what is behind them, and their one flag.

As in Linux a slot has three states: free, reserved (the number is taken, nothing is behind it) and
open. Which numbers are free is kept in a bitmap of two levels, so that the lowest free one is found
at the same cost however many are taken.
"""

import errno
import sys
from collections.abc import Iterator
from typing import Generic, Self, TypeVar

from fdproof.model._failure import Misuse, failure

__all__ = ["NR_OPEN", "SMALLEST", "Table"]

F = TypeVar("F")

NR_OPEN = 1 << 20
"""What fs.nr_open is on Linux unless somebody changes it."""

SMALLEST = 64
"""How many slots a table has at least, and what nr_open is at least."""

_NONE = "file: None stands for a slot without a file"
_LARGEST = (2**31 - 1) // 8
_NO_LIMIT = sys.maxsize
# A word has as many bits as a table of the usual NR_OPEN has words: both levels cost the same.
_SHIFT = 10
_WORD = 1 << _SHIFT
_LOW = _WORD - 1
_ALL = (1 << _WORD) - 1
_BIT = tuple(1 << offset for offset in range(_WORD))


class Table(Generic[F]):
    """A table of descriptors for files of any kind, by Linux's rules.

    It keeps numbers only: it neither counts references nor closes anything, and returns every file
    that leaves it. Numbers beyond the table are bad descriptors, so are negative ones.

    Args:
        nr_open: no number may reach this; Linux's fs.nr_open, at least 64. Lowering it later closes
            nothing.

    Raises:
        ValueError: ``nr_open`` is below 64.
    """

    __slots__ = (
        "_close_on_exec",
        "_files",
        "_free",
        "_hint",
        "_reserved",
        "_size",
        "_with_free",
        "nr_open",
    )

    def __init__(self, *, nr_open: int = NR_OPEN) -> None:
        if nr_open < SMALLEST:
            raise ValueError(
                f"nr_open: {nr_open} is below 64, Linux's own minimum; lower the limit instead"
            )
        self.nr_open = nr_open
        self._size = SMALLEST
        self._files: list[F | None] = [None] * SMALLEST
        # KERNEL: a stale bit on a free slot is normal; reserving writes it anew.
        self._close_on_exec = bytearray(SMALLEST)
        # A bit for each free number, and a bit for each of those words that has one. The words may
        # reach beyond the size: those numbers are free as soon as the table grows.
        self._free: list[int] = [_ALL]
        self._with_free = 1
        # INVARIANT: no free number is lower.
        self._hint = 0
        self._reserved: set[int] = set()

    @property
    def size(self) -> int:
        """How many slots there are; it grows to powers of two and never shrinks."""
        return self._size

    # -- one slot

    def reserve(
        self, at_least: int = 0, *, limit: int = _NO_LIMIT, close_on_exec: bool = False
    ) -> int:
        """Take the lowest free number.

        Args:
            at_least: the lowest number wanted.
            limit: the number must be lower than this: the soft RLIMIT_NOFILE.
            close_on_exec: the descriptor's flag.

        Returns:
            The number. For everybody else its slot is not open, and not free.

        Raises:
            OSError: EMFILE, no number is free below the limit and ``nr_open``.
        """
        hint = self._hint
        number = hint if hint > at_least else at_least
        free = self._free
        place = number >> _SHIFT
        if place < len(free):
            word = free[place]
            if not word & _BIT[number & _LOW]:
                if rest := word >> (number & _LOW):
                    number += (rest & -rest).bit_length() - 1
                else:
                    number = self._free_from_word(place + 1)
                    place = number >> _SHIFT
        if number >= limit:
            raise failure(errno.EMFILE)
        if number >= self._size:
            self.expand(number)
        # KERNEL: the hint stays where numbers below the wanted one were not looked at.
        if at_least <= hint:
            self._hint = number + 1
        word = free[place] ^ _BIT[number & _LOW]
        free[place] = word
        if not word:
            self._with_free ^= 1 << place
        self._close_on_exec[number] = close_on_exec
        self._reserved.add(number)
        return number

    def cancel(self, number: int) -> None:
        """Give a reserved number back.

        Raises:
            Misuse: it is not reserved.
        """
        if number not in self._reserved:
            raise Misuse(
                f"{number} is {self._state(number)}: only a reserved number can be given back"
            )
        self._reserved.remove(number)
        self._release(number)

    def install(self, number: int, file: F) -> None:
        """Put a file into a reserved slot; cannot fail.

        Raises:
            Misuse: the number is not reserved.
            TypeError: the file is None.
        """
        if file is None:
            raise TypeError(_NONE)
        try:
            self._reserved.remove(number)
        except KeyError:
            raise Misuse(
                f"{number} is {self._state(number)}: a file goes into a reserved slot, and once"
            ) from None
        self._files[number] = file

    def add(
        self, file: F, at_least: int = 0, *, limit: int = _NO_LIMIT, close_on_exec: bool = False
    ) -> int:
        """Reserve a number and put a file in, where nothing that can fail comes between.

        Args:
            file: what goes in.
            at_least, limit, close_on_exec: as for ``reserve``.

        Raises:
            OSError: EMFILE, as for ``reserve``.
            TypeError: the file is None.
        """
        if file is None:
            raise TypeError(_NONE)
        number = self.reserve(at_least, limit=limit, close_on_exec=close_on_exec)
        self._reserved.remove(number)
        self._files[number] = file
        return number

    def replace(
        self, number: int, file: F, *, limit: int = _NO_LIMIT, close_on_exec: bool = False
    ) -> F | None:
        """Put a file at an exact number, in one step.

        Returns:
            The file that was there.

        Raises:
            OSError: EBADF, negative or not below the limit; EMFILE, not below ``nr_open``; EBUSY, the
                number is reserved.
            TypeError: the file is None.
        """
        if file is None:
            raise TypeError(_NONE)
        if not 0 <= number < limit:
            raise failure(errno.EBADF)
        if number >= self._size:
            self.expand(number)
        old = self._files[number]
        if old is None:
            if number in self._reserved:
                raise failure(errno.EBUSY)
            # KERNEL: the hint stays, a lower bound as before.
            self._take(number)
        self._files[number] = file
        self._close_on_exec[number] = close_on_exec
        return old

    def remove(self, number: int) -> F:
        """Free a slot.

        Returns:
            The file that was there.

        Raises:
            OSError: EBADF, the number is not open.
        """
        files = self._files
        if not 0 <= number < self._size or (file := files[number]) is None:
            raise failure(errno.EBADF)
        files[number] = None
        place = number >> _SHIFT
        word = self._free[place]
        if not word:
            self._with_free |= 1 << place
        self._free[place] = word | _BIT[number & _LOW]
        if number < self._hint:
            self._hint = number
        return file

    def lookup(self, number: int) -> F:
        """Return the file behind a number.

        Raises:
            OSError: EBADF, the number is not open.
        """
        if 0 <= number < self._size and (file := self._files[number]) is not None:
            return file
        raise failure(errno.EBADF)

    def close_on_exec(self, number: int) -> bool:
        """Return the flag of a descriptor.

        Raises:
            OSError: EBADF, the number is not open.
        """
        self.lookup(number)
        return bool(self._close_on_exec[number])

    def set_close_on_exec(self, number: int, close_on_exec: bool) -> None:
        """Change the flag of a descriptor.

        Raises:
            OSError: EBADF, the number is not open.
        """
        self.lookup(number)
        self._close_on_exec[number] = close_on_exec

    def is_reserved(self, number: int) -> bool:
        """Say whether a number is taken with nothing behind it."""
        return number in self._reserved

    # -- ranges, and the whole

    def remove_range(self, first: int, last: int) -> list[F]:
        """Free all open slots from first to last; reserved ones stay.

        Returns:
            The files that were there, by ascending number.
        """
        removed: list[F] = []
        for begin, end in self._words(first, last):
            chunk = self._files[begin:end]
            found = [file for file in chunk if file is not None]
            if not found:
                continue
            if begin < self._hint:
                lowest = next(at for at, file in enumerate(chunk) if file is not None)
                self._hint = min(self._hint, begin + lowest)
            self._files[begin:end] = [None] * len(chunk)
            self._free_range(begin, end)
            removed += found
        return removed

    def mark_range(self, first: int, last: int) -> None:
        """Set close-on-exec from first to last, as far as the table goes, on reserved slots too."""
        last = min(last, self._size - 1)
        if first <= last:
            self._close_on_exec[first : last + 1] = b"\1" * (last - first + 1)

    def remove_close_on_exec(self) -> list[F]:
        """Free the open slots that have the flag, as execve(2) does.

        Returns:
            The files that were there, by ascending number.
        """
        removed: list[F] = []
        number = self._close_on_exec.find(1)
        while number >= 0:
            # KERNEL: a reserved slot keeps its number and loses its flag.
            if self._files[number] is not None:
                removed.append(self.remove(number))
            number = self._close_on_exec.find(1, number + 1)
        self._close_on_exec = bytearray(self._size)
        return removed

    def copy(self, *, without: tuple[int, int] | None = None) -> Self:
        """Return a copy, as fork makes it: with all that is open, and without the reservations.

        Args:
            without: a range, first and last, that the copy need not have room for.

        Raises:
            OSError: EMFILE, there are numbers that ``nr_open``, lowered since, does not allow any more.
        """
        copy = self._empty()
        size = self._size_for_copy(without)
        if size > SMALLEST:
            copy.expand(size - 1, copying=True)
        copy._files[:size] = self._files[:size]
        copy._close_on_exec[:size] = self._close_on_exec[:size]
        words = (size + _LOW) >> _SHIFT
        copy._free[:words] = self._free[:words]
        if size & _LOW:
            copy._free[words - 1] |= _ALL ^ (_BIT[size & _LOW] - 1)
        for number in self._reserved:
            if number < size:
                copy._free[number >> _SHIFT] |= _BIT[number & _LOW]
        copy._with_free = sum(1 << place for place, word in enumerate(copy._free) if word)
        return copy

    def items(self) -> Iterator[tuple[int, F]]:
        """Yield (number, file) for all that is open, ascending."""
        for begin, end in self._words(0, self._size - 1):
            for number, file in enumerate(self._files[begin:end], begin):
                if file is not None:
                    yield number, file

    def reserved(self) -> list[int]:
        """Return the reserved numbers, ascending."""
        return sorted(self._reserved)

    def __len__(self) -> int:
        """Return how many numbers are open."""
        taken = len(self._free) * _WORD - sum(word.bit_count() for word in self._free)
        return taken - len(self._reserved)

    def expand(self, number: int, *, copying: bool = False) -> None:
        """Make room for a number.

        Args:
            number: the slot that is wanted.
            copying: for a copy, of which only the size is asked, not the number.

        Raises:
            OSError: EMFILE, it is not below ``nr_open``.
        """
        if number < self._size:
            return
        if number >= self.nr_open and not copying:
            raise failure(errno.EMFILE)
        size = 1 << number.bit_length()
        if size > self.nr_open:
            # KERNEL: whole words of 64 bits only, so the last few numbers below nr_open may be lost.
            size = self.nr_open // SMALLEST * SMALLEST
        if size <= number or size > _LARGEST:
            raise failure(errno.EMFILE)
        self._allocate(size)
        more = size - self._size
        self._files += [None] * more
        self._close_on_exec += bytes(more)
        words = (size + _LOW) >> _SHIFT
        known = len(self._free)
        self._free += [_ALL] * (words - known)
        self._with_free |= (1 << words) - (1 << known)
        self._size = size

    # -- for tables with more behind them

    def _empty(self) -> Self:
        """Return a new table of the same kind."""
        return type(self)(nr_open=self.nr_open)

    def _allocate(self, size: int) -> None:
        """Hear of memory for so many slots before it is taken; may raise."""

    # -- the bitmap

    def _free_from_word(self, place: int) -> int:
        """Return the lowest free number in this word of the bitmap or a later one."""
        later = self._with_free >> place
        if not later:
            return len(self._free) << _SHIFT
        place += (later & -later).bit_length() - 1
        word = self._free[place]
        return (place << _SHIFT) + (word & -word).bit_length() - 1

    def _take(self, number: int) -> None:
        place = number >> _SHIFT
        word = self._free[place] ^ _BIT[number & _LOW]
        self._free[place] = word
        if not word:
            self._with_free ^= 1 << place

    def _release(self, number: int) -> None:
        place = number >> _SHIFT
        self._free[place] |= _BIT[number & _LOW]
        self._with_free |= 1 << place
        self._hint = min(self._hint, number)

    def _free_range(self, begin: int, end: int) -> None:
        """Free what lies in a part of one word, apart from what is reserved."""
        place = begin >> _SHIFT
        mask = (1 << (end - begin)) - 1 << (begin & _LOW)
        for number in self._reserved:
            if begin <= number < end:
                mask ^= _BIT[number & _LOW]
        self._free[place] |= mask
        if self._free[place]:
            self._with_free |= 1 << place

    def _words(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yield (begin, end) for the part of each word between first and last that has taken numbers."""
        first, last = max(first, 0), min(last, self._size - 1)
        while first <= last:
            end = min((first | _LOW) + 1, last + 1)
            if self._free[first >> _SHIFT] != _ALL:
                yield first, end
            first = end

    def _size_for_copy(self, without: tuple[int, int] | None) -> int:
        """Return how large a copy must be at least, in whole words of 64."""
        last = self._last_taken(self._size - 1)
        if without is not None and last is not None and without[0] <= last <= without[1]:
            last = self._last_taken(without[0] - 1)
        # KERNEL: a reserved number counts here, though it is not copied.
        return SMALLEST if last is None else (last | (SMALLEST - 1)) + 1

    def _last_taken(self, last: int) -> int | None:
        """Return the highest number that is not free, up to last."""
        for place in range(last >> _SHIFT, -1, -1):
            taken = self._free[place] ^ _ALL
            if place == last >> _SHIFT:
                taken &= (_BIT[last & _LOW] << 1) - 1
            if taken:
                return (place << _SHIFT) + taken.bit_length() - 1
        return None

    def _state(self, number: int) -> str:
        if number in self._reserved:
            return "reserved"
        opened = 0 <= number < self._size and self._files[number] is not None
        return "open" if opened else "free"
