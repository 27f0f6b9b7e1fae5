"""At the edge of RLIMIT_NOFILE: a full table shows at the reserve, and never at the publish."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

import fdproof
from tests.core.child import in_child
from tests.core.full_table import fill, is_full, limit
from tests.core.own_table import lowest_free, table


def full(call: Callable[[], object]) -> None:
    before = table()
    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        call()
    assert caught.value.errno == errno.EMFILE
    assert not isinstance(caught.value, fdproof.Error)
    assert table() == before


@pytest.mark.parametrize("leave", [0, 1])
@pytest.mark.parametrize("where", [{}, {"at_least": 5}, {"inheritable": True}], ids=str)
def test_reserve_fails_before_anything_is_built(leave: int, where: dict[str, Any]) -> None:
    """Also with one free number: the build would not find another."""

    def check() -> None:
        limit(10)
        fill(leave)
        built: list[object] = []
        full(lambda: fdproof.reserve(**where))
        full(lambda: fdproof.prepare(lambda: built.append(1), **where))
        full(lambda: fdproof.add(lambda: built.append(1), **where))
        assert built == []

    in_child(check)


def test_two_free_numbers_are_enough() -> None:
    def check() -> None:
        limit(10)
        fill(2)
        number = lowest_free()
        with fdproof.prepare(lambda: fdproof.memfd("built")) as entry:
            assert entry.number == number
            assert is_full()
            with entry.publish() as owner:
                assert owner.fileno() == number
                assert not is_full(), "the number under which it was built is free again"
        with fdproof.add(fdproof.epoll):
            pass

    in_child(check)


@pytest.mark.parametrize("where", [{}, {"at": True}], ids=["any", "at"])
def test_what_is_prepared_publishes_into_a_full_table(where: dict[str, Any]) -> None:
    def check() -> None:
        limit(12)
        if where:
            where["at"] = lowest_free() + 5
        with fdproof.transaction() as block:
            first = block.prepare(lambda: fdproof.memfd("first"), **where)
            second = block.prepare(lambda: fdproof.memfd("second"))
            numbers = [first.number, second.number]
            fill()
        assert [first.descriptor.fileno(), second.descriptor.fileno()] == numbers
        first.descriptor.close()
        second.descriptor.close()

    in_child(check)


def test_install_works_in_a_full_table() -> None:
    def check() -> None:
        limit(12)
        file = fdproof.memfd("elsewhere")
        with fdproof.reserve() as entry:
            number = entry.number
            fill()
            with entry.install(file) as owner:
                assert owner.fileno() == number

    in_child(check)


def test_a_limit_lowered_below_the_number_stops_the_publish() -> None:
    """The one way to make a publish fail from inside, since dup3 asks again; nothing is lost by it."""

    def check() -> None:
        limit(12)
        entry = fdproof.prepare(lambda: fdproof.memfd("built"))
        limit(0)
        with pytest.raises(OSError, match=r"^\[Errno") as caught:
            entry.publish()
        assert caught.value.errno == errno.EBADF
        os.fstat(entry.file.fileno())
        before = len(table())
        entry.cancel()
        assert len(table()) == before - 2

    in_child(check)


def test_a_transaction_reserves_all_or_none() -> None:
    def check() -> None:
        limit(12)
        fill(3)
        before = table()
        with pytest.raises(OSError, match=r"^\[Errno") as caught, fdproof.transaction() as block:  # noqa: PT012  # its end raises
            block.reserve()
            block.reserve()
        assert caught.value.errno == errno.EMFILE
        assert table() == before

    in_child(check)


@pytest.mark.parametrize("leave", [0, 1])
def test_receive_needs_one_number_and_two_at_a_fixed_place(leave: int) -> None:
    def check() -> None:
        limit(12)
        taken = fill(leave)
        number = lowest_free()
        full(lambda: fdproof.receive(taken[0], at=number))
        if leave:
            with fdproof.receive(taken[0]) as owner:
                assert owner.fileno() == number
        else:
            full(lambda: fdproof.receive(taken[0]))

    in_child(check)


def test_duplicate_and_creating_calls_say_so() -> None:
    def check() -> None:
        limit(12)
        owner = fdproof.epoll()
        fill(1)
        full(fdproof.pipe)
        full(fdproof.socketpair)
        fill()
        full(owner.duplicate)
        for create in (
            fdproof.pipe,
            fdproof.epoll,
            fdproof.eventfd,
            fdproof.timerfd,
            fdproof.inotify,
        ):
            full(create)
        full(lambda: fdproof.open("/dev/null"))
        full(lambda: fdproof.memfd("x"))
        full(lambda: fdproof.signalfd([1]))
        full(lambda: fdproof.pidfd(os.getpid()))

    in_child(check)
