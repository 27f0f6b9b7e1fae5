"""A reservation belongs to one process: its child may let go of it, and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

import fdproof
from fdproof import Descriptor, Reservation, StateError
from tests.core.child import in_child
from tests.core.own_table import entry, table

OwnReservation = Reservation[Descriptor, Descriptor]


def install(reservation: OwnReservation) -> None:
    with fdproof.epoll() as owner:
        try:
            reservation.install(owner)
        finally:
            assert not owner.closed


USES: dict[str, tuple[bool, Callable[[OwnReservation], Any]]] = {
    "publish": (True, lambda reservation: reservation.publish()),
    "install": (False, install),
    "build": (False, lambda reservation: reservation.build(fdproof.epoll)),
}


@pytest.mark.parametrize("use", USES)
def test_a_child_cannot_use_it(use: str) -> None:
    built, act = USES[use]
    reservation = fdproof.reserve()
    if built:
        reservation.build(lambda: fdproof.memfd("parent's"))
    number = reservation.number

    def check() -> None:
        before = table()
        with pytest.raises(StateError, match=r"belongs to process \d+.*fork"):
            act(reservation)
        assert table() == before

    in_child(check)

    if not built:
        reservation.build(lambda: fdproof.memfd("parent's"))
    with reservation.publish() as owner:
        assert owner.fileno() == number


def test_a_child_cannot_end_the_transaction() -> None:
    with fdproof.transaction() as block:
        kept = block.prepare(lambda: fdproof.memfd("parent's"))

        def check() -> None:
            number = kept.number or 0
            with pytest.raises(StateError, match="fork"):
                block.__exit__(None, None, None)
            assert entry(number) is None, "the child's copy is given back"

        in_child(check)
    with kept.descriptor as owner:
        assert not owner.closed


@pytest.mark.parametrize("act", ["cancel", "drop", "leave"])
def test_what_a_child_gives_back_is_its_own_copy(act: str) -> None:
    with fdproof.prepare(lambda: fdproof.memfd("parent's")) as reservation:
        numbers = [reservation.number or 0, reservation.file.fileno()]

        def check() -> None:
            if act == "cancel":
                reservation.cancel()
            elif act == "leave":
                reservation.__exit__(None, None, None)
            else:
                reservation.file.close()
                reservation._slot.__del__()  # type: ignore[union-attr]
            assert [entry(number) for number in numbers] == [None, None]

        in_child(check)

        with reservation.publish() as owner:
            assert owner.fileno() == numbers[0]


def test_a_descriptor_is_inherited_as_the_kernel_has_it() -> None:
    with fdproof.memfd("shared") as owner:
        in_child(owner.close)
        assert entry(owner.fileno()) is not None


def test_a_headroom_works_on_in_the_child() -> None:
    with fdproof.Headroom(2, paths=["path"]) as headroom:

        def check() -> None:
            before = table()
            headroom.close()
            assert len(before) - len(table()) == 4

        in_child(check)
        assert headroom.held == 2
