"""What is true of reservations in this process's table, and of no other."""

import errno
import fcntl
import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fdproof
from fdproof import Descriptor, FileFlags, StateError
from fdproof._slot import Slot as OwnSlot
from tests.core.own_table import entry, lowest_free, table


def closed(number: int) -> None:
    os.close(number)


def replaced(number: int) -> None:
    with open("/dev/null") as stream:
        os.dup2(stream.fileno(), number, inheritable=False)


@pytest.mark.parametrize("act", ["publish", "install", "cancel", "drop"])
@pytest.mark.parametrize("theft", [closed, replaced])
def test_a_number_that_somebody_else_took_is_left_alone(
    act: str, theft: Callable[[int], None]
) -> None:
    before = table()
    with fdproof.memfd("elsewhere") as elsewhere:
        reservation: Any = fdproof.reserve()
        number = reservation.number
        if act == "publish":
            reservation.build(lambda: fdproof.memfd("built"))
        theft(number)
        found = entry(number)

        if act in ("publish", "install"):
            with pytest.raises(StateError, match=f"descriptor {number} was taken"):
                reservation.publish() if act == "publish" else reservation.install(elsewhere)
            assert not elsewhere.closed
            reservation.cancel()
        elif act == "cancel":
            reservation.cancel()
        del reservation

        assert entry(number) == found
        if found is not None:
            os.close(number)
    assert table() == before


def test_nothing_can_be_done_with_a_reserved_number() -> None:
    with fdproof.reserve() as reservation:
        number = reservation.number or 0
        for attempt in (
            lambda: os.read(number, 1),
            lambda: os.write(number, b"x"),
            lambda: os.fchmod(number, 0),
        ):
            with pytest.raises(OSError, match=r"^\[Errno") as caught:
                attempt()
            assert caught.value.errno == errno.EBADF
        assert fcntl.fcntl(number, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


def test_install_leaves_the_file_when_it_fails() -> None:
    reservation = fdproof.reserve()
    reservation.cancel()
    with fdproof.epoll() as owner:
        with pytest.raises(StateError):
            reservation.install(owner)
        os.fstat(owner.fileno())


def test_publishing_a_file_that_was_closed_meanwhile() -> None:
    before = table()
    with fdproof.prepare(fdproof.epoll) as reservation:
        reservation.file.close()
        with pytest.raises(fdproof.ClosedError):
            reservation.publish()
    assert table() == before


def test_a_build_may_return_what_a_descriptor_adopts() -> None:
    number = lowest_free()
    with fdproof.add(lambda: os.memfd_create("number")) as owner:
        assert owner.fileno() == number


@pytest.mark.parametrize("argument", ["at", "at_least"])
@pytest.mark.parametrize("value", [-1, 1 << 31, True, 1.0, "3"])
def test_names_a_bad_argument(argument: str, value: Any) -> None:
    before = table()
    for attempt in (fdproof.reserve, lambda **where: fdproof.receive(0, **where)):
        with pytest.raises((ValueError, TypeError), match=f"^{argument}: "):
            attempt(**{argument: value})
    assert table() == before


@pytest.mark.parametrize("argument", ["at", "at_least"])
def test_names_a_number_beyond_the_limit(argument: str) -> None:
    before = table()
    with pytest.raises(OSError, match=rf"{argument}: .*RLIMIT_NOFILE") as caught:
        fdproof.reserve(**{argument: (1 << 31) - 1})  # type: ignore[arg-type]
    assert caught.value.errno == errno.EINVAL
    assert table() == before


@pytest.mark.parametrize(
    "arguments", [(), (None,), (None, 0), (None, "0", True), (0.5, 0, True)], ids=str
)
def test_a_slot_that_could_not_be_made_closes_nothing(arguments: Any) -> None:
    """Its finaliser runs all the same, and zero is a number."""
    before = table()
    with pytest.raises(TypeError):
        OwnSlot(*arguments)
    assert table() == before


def test_a_slot_is_made_once() -> None:
    slot = OwnSlot(None, 0, True)
    before = table()
    with pytest.raises(StateError, match="already holds"):
        slot.__init__(None, 0, True)
    assert table() == before


def test_publish_moves_the_file_and_what_hangs_on_its_old_number_stays_there(
    tmp_path: Path,
) -> None:
    """What ``build`` warns of: epoll keeps the old number, and record locks go with its close."""
    with select.epoll() as epoll:

        def watched() -> Descriptor:
            owner = fdproof.eventfd(1)
            old.append(owner.fileno())
            epoll.register(owner, select.EPOLLIN)
            return owner

        old: list[int] = []
        with fdproof.add(watched) as owner:
            assert epoll.poll(0) == [(old[0], select.EPOLLIN)]
            assert owner.fileno() != old[0]

    def locked() -> Descriptor:
        owner = fdproof.open(tmp_path / "file", FileFlags.RDWR | FileFlags.CREAT)
        fcntl.lockf(owner, fcntl.LOCK_EX)
        return owner

    with fdproof.add(locked):
        pid = os.fork()
        if pid == 0:
            with fdproof.open(tmp_path / "file", FileFlags.RDWR) as other:
                fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
