"""Free-running threads: one number is never two owners', and the table ends as it began."""

import itertools
import os
import sys
import threading
from collections.abc import Callable

import pytest

import fdproof
from tests.core.own_table import table

THREADS = 8
# A run by hand may be shorter; CI does them all.
ROUNDS = int(os.environ.get("FDPROOF_THREAD_ROUNDS", "100000"))


class Holders:
    """Who has which number: a second holder of one is what must not happen."""

    def __init__(self) -> None:
        self._by_number: dict[int, int] = {}
        self.most = 0

    def take(self, number: int) -> None:
        me = threading.get_ident()
        found = self._by_number.setdefault(number, me)
        if found != me or len(self._by_number) > 200:
            raise AssertionError(f"descriptor {number} was handed to {me}, but {found} has it")
        self.most = max(self.most, len(self._by_number))

    def give(self, number: int) -> None:
        """Before the number is given back: after, it may be another's already."""
        if self._by_number.pop(number, None) != threading.get_ident():
            raise AssertionError(f"descriptor {number} was not ours any more")


def reserve_and_cancel(holders: Holders) -> None:
    reservation = fdproof.reserve()
    number = reservation.number or 0
    holders.take(number)
    holders.give(number)
    reservation.cancel()


def prepare_and_publish(holders: Holders) -> None:
    with fdproof.prepare(fdproof.epoll) as reservation:
        number = reservation.number or 0
        holders.take(number)
        owner = reservation.publish()
    assert owner.fileno() == number
    holders.give(number)
    owner.close()


def prepare_and_cancel(holders: Holders) -> None:
    with fdproof.prepare(fdproof.eventfd) as reservation:
        numbers = [reservation.number or 0, reservation.file.fileno()]
        for number in numbers:
            holders.take(number)
        for number in numbers:
            holders.give(number)


def reserve_and_drop(holders: Holders) -> None:
    reservation = fdproof.reserve(at_least=30)
    number = reservation.number or 0
    holders.take(number)
    holders.give(number)


def receive_and_close(holders: Holders) -> None:
    owner = fdproof.receive(0, at_least=20)
    holders.take(owner.fileno())
    holders.give(owner.fileno())
    owner.close()


STEPS: list[Callable[[Holders], None]] = [
    reserve_and_cancel,
    prepare_and_publish,
    prepare_and_cancel,
    reserve_and_drop,
    receive_and_close,
]


@pytest.mark.timeout(600)
def test_no_number_is_handed_out_twice() -> None:
    before = table()
    holders = Holders()
    failures: list[BaseException] = []
    stop = threading.Event()
    start = threading.Barrier(THREADS + 1)

    def work(first: int) -> None:
        steps = itertools.cycle(STEPS[first:] + STEPS[:first])
        try:
            start.wait()
            for _ in range(ROUNDS):
                next(steps)(holders)
                if failures:
                    return
        except BaseException as error:
            failures.append(error)

    def open_and_close() -> None:
        """A stranger to fdproof, whose calls let the interpreter go between number and owner."""
        try:
            start.wait()
            while not stop.is_set():
                number = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                holders.take(number)
                holders.give(number)
                os.close(number)
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    workers = [
        threading.Thread(target=work, args=(index % len(STEPS),)) for index in range(THREADS)
    ]
    stranger = threading.Thread(target=open_and_close)
    try:
        for thread in [*workers, stranger]:
            thread.start()
        for thread in workers:
            thread.join()
    finally:
        stop.set()
        stranger.join()
        sys.setswitchinterval(interval)

    assert failures == []
    assert holders.most > 1, "the threads never overlapped, so nothing was shown"
    assert table() == before
