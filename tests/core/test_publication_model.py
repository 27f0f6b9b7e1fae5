"""Reservations of this process's table, against a model of the table that knows nothing of fdproof."""

import errno
import os
import warnings
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import fdproof
from fdproof import Descriptor, Reservation, StateError
from tests.core.own_table import Open, entry

SIZE = 64


SLASH = (os.stat("/").st_dev, os.stat("/").st_ino)


PLACEHOLDER = Open(*SLASH, close_on_exec=True)


class Held(NamedTuple):
    """What the model knows about a reservation."""

    number: int
    inheritable: bool
    room: int | None
    file: int | None


class Machine(RuleBasedStateMachine):
    """Reservations, publications and strangers in one table; the model is a dict of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {
            number: found for number in range(SIZE) if (found := entry(number)) is not None
        }
        self.reservations: dict[int, Reservation[Descriptor, Descriptor]] = {}
        self.held: dict[int, Held] = {}
        self.strangers: list[int] = []
        self.owners: list[Descriptor] = []
        self.serial = 0

    def lowest(self, start: int = 0, besides: int = -1) -> int:
        return next(
            number
            for number in range(start, SIZE)
            if number not in self.table and number != besides
        )

    def add(self, number: int) -> None:
        """Enter a new file that the test itself made, and knows."""
        assert number == self.lowest()
        found = entry(number)
        assert found is not None
        assert (found.device, found.inode) not in {
            (known.device, known.inode) for known in self.table.values()
        }
        self.table[number] = found

    def pick(self, choice: int) -> int:
        return sorted(self.held)[choice % len(self.held)]

    def has_reservation(self) -> bool:
        return bool(self.held)

    def few(self) -> bool:
        return len(self.table) < 30

    choices = st.integers(0, 1000)
    numbers = st.integers(0, 40)

    @invariant()
    def the_table_is_the_models(self) -> None:
        assert {n: found for n in range(SIZE) if (found := entry(n)) is not None} == self.table

    @precondition(few)
    @rule()
    def stranger_opens(self) -> None:
        number = os.memfd_create("stranger")
        self.add(number)
        self.strangers.append(number)

    @precondition(lambda self: self.strangers)
    @rule(choice=choices)
    def stranger_closes(self, choice: int) -> None:
        number = self.strangers.pop(choice % len(self.strangers))
        os.close(number)
        del self.table[number]

    @precondition(few)
    @rule(at=st.none() | numbers, at_least=numbers, inheritable=st.booleans())
    def reserve(self, at: int | None, at_least: int, inheritable: bool) -> None:
        if at in self.table:
            with pytest.raises(OSError, match="at: ") as caught:
                fdproof.reserve(at=at, inheritable=inheritable)
            assert caught.value.errno == errno.EBUSY
            return
        reservation = fdproof.reserve(at=at, at_least=at_least, inheritable=inheritable)
        number = self.lowest(at_least) if at is None else at
        room = self.lowest(besides=number)
        assert reservation.number == number
        self.table |= {number: PLACEHOLDER, room: PLACEHOLDER}
        self.serial += 1
        self.reservations[self.serial] = reservation
        self.held[self.serial] = Held(number, inheritable, room, None)

    @precondition(has_reservation)
    @rule(choice=choices, fails=st.booleans())
    def build(self, choice: int, fails: bool) -> None:
        key = self.pick(choice)
        held = self.held[key]
        if held.file is not None:
            with pytest.raises(StateError, match="already"):
                self.reservations[key].build(lambda: fdproof.memfd("never"))
            return
        if held.room is not None:
            del self.table[held.room]
        held = held._replace(room=None)

        def factory() -> Descriptor:
            if fails:
                raise ZeroDivisionError
            return fdproof.memfd("built")

        if fails:
            with pytest.raises(ZeroDivisionError):
                self.reservations[key].build(factory)
        else:
            self.reservations[key].build(factory)
            number = self.reservations[key].file.fileno()
            self.add(number)
            held = held._replace(file=number)
        self.held[key] = held

    @precondition(has_reservation)
    @rule(choice=choices)
    def publish(self, choice: int) -> None:
        key = self.pick(choice)
        held = self.held[key]
        if held.file is None:
            with pytest.raises(StateError, match="nothing is built"):
                self.reservations[key].publish()
            return
        self.published(key, self.reservations[key].publish(), held.file)

    @precondition(lambda self: self.held and self.owners)
    @rule(choice=choices, which=choices)
    def install(self, choice: int, which: int) -> None:
        key = self.pick(choice)
        owner = self.owners[which % len(self.owners)]
        if self.held[key].file is not None:
            with pytest.raises(StateError, match="of its own"):
                self.reservations[key].install(owner)
            return
        self.owners.remove(owner)
        source = owner.fileno()
        self.published(key, self.reservations[key].install(owner), source)
        assert owner.closed

    def published(self, key: int, owner: Descriptor, source: int) -> None:
        held = self.held.pop(key)
        assert self.reservations.pop(key).descriptor is owner
        assert owner.fileno() == held.number
        assert owner.inheritable is held.inheritable
        moved = self.table.pop(source)
        self.table[held.number] = moved._replace(close_on_exec=not held.inheritable)
        if held.room is not None:
            del self.table[held.room]
        self.owners.append(owner)

    @precondition(has_reservation)
    @rule(choice=choices, drop=st.booleans())
    def give_back(self, choice: int, drop: bool) -> None:
        key = self.pick(choice)
        held = self.held.pop(key)
        for number in (held.number, held.room, held.file):
            if number is not None:
                del self.table[number]
        reservation = self.reservations.pop(key)
        if not drop:
            reservation.cancel()
            reservation.cancel()
            return
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del reservation
        assert len(caught) == (held.file is not None)

    @precondition(lambda self: self.strangers and len(self.table) < 30)
    @rule(choice=choices, at=st.none() | numbers, at_least=numbers, inheritable=st.booleans())
    def receive(self, choice: int, at: int | None, at_least: int, inheritable: bool) -> None:
        source = self.strangers[choice % len(self.strangers)]
        if at in self.table:
            with pytest.raises(OSError, match="at: "):
                fdproof.receive(source, at=at, inheritable=inheritable)
            return
        owner = fdproof.receive(source, at=at, at_least=at_least, inheritable=inheritable)
        assert owner.fileno() == (self.lowest(at_least) if at is None else at)
        self.table[owner.fileno()] = self.table[source]._replace(close_on_exec=not inheritable)
        self.owners.append(owner)

    @precondition(lambda self: self.owners)
    @rule(choice=choices)
    def close(self, choice: int) -> None:
        owner = self.owners.pop(choice % len(self.owners))
        del self.table[owner.fileno()]
        owner.close()

    def teardown(self) -> None:
        for reservation in self.reservations.values():
            reservation.cancel()
        for owner in self.owners:
            owner.close()
        for number in self.strangers:
            os.close(number)


TestAgainstTheModel = Machine.TestCase
