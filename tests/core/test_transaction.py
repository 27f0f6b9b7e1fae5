"""A transaction publishes all of its descriptors or none of them."""

import os
from typing import Any

import pytest

import fdproof
from fdproof import Reservation, StateError
from tests.core.own_table import entry, table
from tests.core.subjects import Subject


def test_publishes_all_at_the_end(subject: Subject) -> None:
    with fdproof.transaction(table=subject.table) as block:
        first = block.prepare(subject.file, at=31)
        second = block.prepare(subject.file, at_least=30, inheritable=True)
        numbers = [first.number, second.number]
        for entry_ in (first, second):
            with pytest.raises(StateError, match="nothing is published"):
                entry_.descriptor  # noqa: B018

    assert [subject.number(entry_.descriptor) for entry_ in (first, second)] == numbers == [31, 30]
    assert [subject.close_on_exec(entry_.descriptor) for entry_ in (first, second)] == [True, False]
    assert subject.identity(first.descriptor) != subject.identity(second.descriptor)
    subject.close(first.descriptor)
    subject.close(second.descriptor)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("steps", range(4))
def test_publishes_nothing_when_the_block_fails(
    subject: Subject, error: type[BaseException], steps: int
) -> None:
    before = subject.state()
    with pytest.raises(error), fdproof.transaction(table=subject.table) as block:  # noqa: PT012  # its end raises
        if steps > 0:
            block.prepare(subject.file)
        if steps > 1:
            block.reserve()
        if steps > 2:
            block.prepare(subject.file, at=30)
        raise error
    assert subject.state() == before


def test_publishes_nothing_when_one_was_never_built(subject: Subject) -> None:
    before = subject.state()
    with (  # noqa: PT012  # its end raises
        pytest.raises(StateError, match="nothing is built"),
        fdproof.transaction(table=subject.table) as block,
    ):
        block.prepare(subject.file)
        block.reserve()
    assert subject.state() == before


def test_publishes_nothing_when_one_number_was_taken_away(subject: Subject) -> None:
    """Checked for all before the first is published."""
    entries: list[Reservation[Any, Any]] = []
    before = subject.state()
    with (  # noqa: PT012  # its end raises
        pytest.raises(subject.taken, match="taken"),
        fdproof.transaction(table=subject.table) as block,
    ):
        entries.extend(block.prepare(subject.file) for _ in range(3))
        subject.steal(entries[2].number or 0)
    for entry_ in entries:
        with pytest.raises(StateError, match="nothing is published"):
            entry_.descriptor  # noqa: B018
    assert subject.state() == before


def test_goes_on_without_what_could_not_be_built(subject: Subject) -> None:
    def fail() -> None:
        raise OSError

    with fdproof.transaction(table=subject.table) as block:
        with pytest.raises(OSError, match=r"^$"):
            block.prepare(fail)
        kept = block.prepare(subject.file)

    subject.close(kept.descriptor)


def test_leaves_out_what_was_cancelled_or_published_before(subject: Subject) -> None:
    before = subject.state()
    with fdproof.transaction(table=subject.table) as block:
        block.prepare(subject.file).cancel()
        block.reserve().cancel()
        early = block.prepare(subject.file).publish()
        late = block.reserve().build(subject.file)

    subject.close(early)
    subject.close(late.descriptor)
    assert subject.state() == before


def test_an_empty_block_is_fine(subject: Subject) -> None:
    before = subject.state()
    with fdproof.transaction(table=subject.table):
        pass
    assert subject.state() == before


def test_return_publishes(subject: Subject) -> None:
    """Leaving early is no failure: only an exception is."""

    def early() -> Reservation[Any, Any]:
        with fdproof.transaction(table=subject.table) as block:
            return block.prepare(subject.file)

    subject.close(early().descriptor)


def test_works_inside_its_block_only(subject: Subject) -> None:
    block = fdproof.transaction(table=subject.table)
    with pytest.raises(StateError, match="inside its with block"):
        block.reserve()
    with block, pytest.raises(StateError, match="in use"):
        block.__enter__()
    with pytest.raises(StateError, match="inside its with block"):
        block.prepare(subject.file)


def test_a_transaction_inside_another_stands_for_itself(subject: Subject) -> None:
    with pytest.raises(ZeroDivisionError), fdproof.transaction(table=subject.table) as outer:  # noqa: PT012  # its end raises
        lost = outer.prepare(subject.file)
        with fdproof.transaction(table=subject.table) as inner:
            kept = inner.prepare(subject.file)
        raise ZeroDivisionError
    with pytest.raises(StateError):
        lost.descriptor  # noqa: B018
    subject.close(kept.descriptor)


def test_a_closed_file_stops_all_of_them() -> None:
    before = table()
    with pytest.raises(fdproof.ClosedError), fdproof.transaction() as block:  # noqa: PT012  # its end raises
        block.prepare(fdproof.epoll)
        os.close(block.prepare(fdproof.epoll).file.detach())
    assert table() == before


def test_a_pipe_as_standard_streams() -> None:
    """Both ends at numbers that were chosen before there was a pipe."""
    with fdproof.transaction() as block:
        ends = block.reserve(at_least=40), block.reserve(at_least=40)
        numbers = [end.number for end in ends]
        pair = fdproof.pipe()
        ends[0].build(lambda: pair.first)
        ends[1].build(lambda: pair.second)
    with ends[0].descriptor as reading, ends[1].descriptor as writing:
        assert [reading.fileno(), writing.fileno()] == numbers == [40, 41]
        os.write(writing.fileno(), b"x")
        assert os.read(reading.fileno(), 1) == b"x"
        assert pair.first.closed
    assert entry(40) is None
