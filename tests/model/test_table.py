"""The table alone, against sets and dicts that know nothing of bitmaps."""

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fdproof.model import Misuse, Table

# Around the ends of words and of what a table grows to.
EDGES = [0, 1, 2, 62, 63, 64, 65, 127, 128, 1022, 1023, 1024, 1025, 2047, 2048, 3071, 3072, 4100]
numbers = st.sampled_from(EDGES) | st.integers(0, 130)
bad_numbers = st.sampled_from([-(2**31), -1025, -64, -1])


class Naive:
    """What a table does, said as simply as can be."""

    def __init__(self, nr_open: int) -> None:
        self.nr_open = nr_open
        self.size = 64
        self.open: dict[int, tuple[object, bool]] = {}
        self.reserved: dict[int, bool] = {}

    def taken(self) -> set[int]:
        return self.open.keys() | self.reserved.keys()

    def grow(self, number: int) -> int | None:
        if number < self.size:
            return None
        if number >= self.nr_open:
            return errno.EMFILE
        size = self.size
        while size <= number:
            size *= 2
        if size > self.nr_open:
            size = self.nr_open - self.nr_open % 64
        if size <= number:
            return errno.EMFILE
        self.size = size
        return None

    def reserve(self, at_least: int, limit: int, close_on_exec: bool) -> int | OSError:
        number = at_least
        while number in self.taken():
            number += 1
        if number >= limit:
            return OSError(errno.EMFILE, "")
        if failed := self.grow(number):
            return OSError(failed, "")
        self.reserved[number] = close_on_exec
        return number

    def copy(self) -> "Naive | OSError":
        copy = Naive(self.nr_open)
        highest = max(self.taken(), default=0)
        if highest >= 64:
            wanted = highest - highest % 64 + 64
            while copy.size < wanted:
                copy.size *= 2
            if copy.size > self.nr_open:
                copy.size = self.nr_open - self.nr_open % 64
            if copy.size < wanted:
                return OSError(errno.EMFILE, "")
        copy.open = dict(self.open)
        return copy


def outcome(call: Any) -> Any:
    try:
        return call()
    except OSError as error:
        return OSError(error.errno, "")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, OSError) and isinstance(other, OSError):
        return one.errno == other.errno
    return bool(one == other)


class Machine(RuleBasedStateMachine):
    """Every operation of the table, in any order."""

    @initialize(nr_open=st.sampled_from([64, 100, 1024, 2000, 4096, 1 << 20]))
    def start(self, nr_open: int) -> None:
        self.table: Table[object] = Table(nr_open=nr_open)
        self.naive = Naive(nr_open)
        self.serial = 0

    def file(self) -> object:
        self.serial += 1
        return f"file {self.serial}"

    @rule(at_least=numbers, limit=numbers | st.just(1 << 40), close_on_exec=st.booleans())
    def reserve(self, at_least: int, limit: int, close_on_exec: bool) -> None:
        real = outcome(
            lambda: self.table.reserve(at_least, limit=limit, close_on_exec=close_on_exec)
        )
        assert same(real, self.naive.reserve(at_least, limit, close_on_exec))

    @rule(close_on_exec=st.booleans())
    def reserve_the_lowest(self, close_on_exec: bool) -> None:
        self.reserve(0, 1 << 40, close_on_exec)

    @rule(choice=st.integers(0, 100))
    def cancel(self, choice: int) -> None:
        if self.naive.reserved:
            number = sorted(self.naive.reserved)[choice % len(self.naive.reserved)]
            self.table.cancel(number)
            del self.naive.reserved[number]

    @rule(choice=st.integers(0, 100))
    def install(self, choice: int) -> None:
        if self.naive.reserved:
            number = sorted(self.naive.reserved)[choice % len(self.naive.reserved)]
            file = self.file()
            self.table.install(number, file)
            self.naive.open[number] = (file, self.naive.reserved.pop(number))

    @rule(at_least=numbers, close_on_exec=st.booleans())
    def add(self, at_least: int, close_on_exec: bool) -> None:
        file = self.file()
        real = outcome(lambda: self.table.add(file, at_least, close_on_exec=close_on_exec))
        number = self.naive.reserve(at_least, 1 << 40, close_on_exec)
        assert same(real, number)
        if isinstance(number, int):
            self.naive.open[number] = (file, self.naive.reserved.pop(number))

    @rule(number=numbers | bad_numbers, limit=numbers | st.just(1 << 40), flag=st.booleans())
    def replace(self, number: int, limit: int, flag: bool) -> None:
        file = self.file()
        real = outcome(lambda: self.table.replace(number, file, limit=limit, close_on_exec=flag))
        expected: Any
        if not 0 <= number < limit:
            expected = OSError(errno.EBADF, "")
        elif failed := self.naive.grow(number):
            expected = OSError(failed, "")
        elif number in self.naive.reserved:
            expected = OSError(errno.EBUSY, "")
        else:
            expected = self.naive.open.get(number, (None, False))[0]
            self.naive.open[number] = (file, flag)
        assert same(real, expected)

    @rule(number=numbers | bad_numbers)
    def remove(self, number: int) -> None:
        real = outcome(lambda: self.table.remove(number))
        expected: Any = OSError(errno.EBADF, "")
        if number in self.naive.open:
            expected = self.naive.open.pop(number)[0]
        assert same(real, expected)

    @rule(number=numbers | bad_numbers, flag=st.booleans())
    def set_close_on_exec(self, number: int, flag: bool) -> None:
        real = outcome(lambda: self.table.set_close_on_exec(number, flag))
        expected: Any = OSError(errno.EBADF, "")
        if number in self.naive.open:
            expected = None
            self.naive.open[number] = (self.naive.open[number][0], flag)
        assert same(real, expected)

    @rule(first=numbers, last=numbers | st.just(2**32 - 1))
    def remove_range(self, first: int, last: int) -> None:
        gone = [number for number in sorted(self.naive.open) if first <= number <= last]
        assert self.table.remove_range(first, last) == [
            self.naive.open.pop(number)[0] for number in gone
        ]

    @rule(first=numbers, last=numbers | st.just(2**32 - 1))
    def mark_range(self, first: int, last: int) -> None:
        self.table.mark_range(first, last)
        for number, (file, _) in self.naive.open.items():
            if first <= number <= last:
                self.naive.open[number] = (file, True)
        for number in self.naive.reserved:
            if first <= number <= last:
                self.naive.reserved[number] = True

    @rule()
    def remove_close_on_exec(self) -> None:
        gone = [number for number, (_, flag) in sorted(self.naive.open.items()) if flag]
        assert self.table.remove_close_on_exec() == [
            self.naive.open.pop(number)[0] for number in gone
        ]
        self.naive.reserved = dict.fromkeys(self.naive.reserved, False)

    @rule(nr_open=st.sampled_from([64, 128, 1000, 1024, 1 << 20]))
    def change_nr_open(self, nr_open: int) -> None:
        self.table.nr_open = self.naive.nr_open = nr_open

    @rule(stay=st.booleans())
    def copy(self, stay: bool) -> None:
        """The copy is a table of its own; go on with either."""
        real, expected = outcome(self.table.copy), self.naive.copy()
        if isinstance(expected, OSError):
            assert same(real, expected)
        elif stay:
            real.remove_range(0, 1 << 20)
            real.add("in the copy")
        else:
            self.table.remove_range(0, 1 << 20)
            self.table, self.naive = real, expected

    @invariant()
    def both_say_the_same(self) -> None:
        if not hasattr(self, "table"):
            return
        table, naive = self.table, self.naive
        assert list(table.items()) == sorted((n, file) for n, (file, _) in naive.open.items())
        assert table.reserved() == sorted(naive.reserved)
        assert len(table) == len(naive.open)
        assert table.size == naive.size
        for number, (file, flag) in naive.open.items():
            assert table.lookup(number) is file
            assert table.close_on_exec(number) is flag
        for number in {*EDGES, -1} - naive.open.keys():
            assert same(outcome(lambda number=number: table.lookup(number)), OSError(9, ""))


TestAgainstSets = Machine.TestCase


def test_a_reserved_number_is_neither_free_nor_open() -> None:
    table: Table[str] = Table()
    number = table.reserve()

    for call in (table.lookup, table.remove, table.close_on_exec):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call(number)
    with pytest.raises(OSError, match="busy"):
        table.replace(number, "file")
    assert table.reserve() == number + 1
    assert table.is_reserved(number)
    assert len(table) == 0


@pytest.mark.parametrize("state", ["free", "open"])
def test_only_a_reserved_number_is_installed_or_given_back(state: str) -> None:
    table: Table[str] = Table()
    number = table.add("first") if state == "open" else 0

    with pytest.raises(Misuse, match=f"^0 is {state}: a file goes into a reserved slot"):
        table.install(number, "second")
    with pytest.raises(Misuse, match=f"^0 is {state}: only a reserved number"):
        table.cancel(number)

    assert list(table.items()) == ([(0, "first")] if state == "open" else [])


def test_a_mark_reaches_a_slot_that_is_still_reserved() -> None:
    table: Table[str] = Table()
    number = table.reserve(close_on_exec=False)

    table.mark_range(0, 2**32 - 1)
    table.install(number, "file")

    assert table.close_on_exec(number)


def test_a_mark_on_a_free_slot_is_forgotten() -> None:
    table: Table[str] = Table()

    table.mark_range(0, 63)

    assert not table.close_on_exec(table.add("file"))


def test_none_is_no_file() -> None:
    table: Table[str | None] = Table()
    number = table.reserve()

    for call in (
        lambda: table.add(None),
        lambda: table.install(number, None),
        lambda: table.replace(5, None),
    ):
        with pytest.raises(TypeError, match="file: None stands for a slot without a file"):
            call()

    assert len(table) == 0
    assert table.reserved() == [number]


def test_a_table_has_64_slots_at_least() -> None:
    with pytest.raises(ValueError, match="nr_open: 63 is below 64"):
        Table(nr_open=63)


def test_the_last_numbers_below_nr_open_are_lost_where_it_is_no_multiple_of_64() -> None:
    table: Table[str] = Table(nr_open=100)
    for number in range(64):
        assert table.add("file") == number

    with pytest.raises(OSError, match="Too many open files"):
        table.add("file")


@given(st.sets(st.integers(0, 5000), max_size=60), st.integers(0, 5000), st.integers(0, 5000))
def test_a_copy_without_a_range_has_all_that_is_outside(
    taken: set[int], first: int, last: int
) -> None:
    table: Table[int] = Table()
    for number in taken:
        table.replace(number, number)

    copy = table.copy(without=(first, last))
    copy.remove_range(first, last)

    assert [n for n, _ in copy.items()] == sorted(n for n in taken if not first <= n <= last)
    assert [n for n, _ in table.items()] == sorted(taken)
    assert copy.add(-1) == next(
        n for n in range(6000) if n not in dict(copy.items()) or copy.lookup(n) == -1
    )


def test_a_copy_without_the_highest_needs_no_room_for_it() -> None:
    table: Table[str] = Table()
    table.replace(5, "low")
    table.replace(500, "high")
    table.nr_open = 64

    with pytest.raises(OSError, match="Too many open files"):
        table.copy()
    assert list(table.copy(without=(100, 2**32 - 1)).items()) == [(5, "low")]


def test_a_million_numbers_are_used_lowest_first() -> None:
    table: Table[int] = Table()
    for number in range(1 << 20):
        assert table.add(number) == number
    with pytest.raises(OSError, match="Too many open files"):
        table.add(-1)

    for number in (999_999, 3, 524_288):
        assert table.remove(number) == number
    assert [table.add(-1) for _ in range(3)] == [3, 524_288, 999_999]
