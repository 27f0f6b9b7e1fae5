"""Headroom: what is kept back reaches the paths that were named, and nobody else."""

import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import fdproof
from fdproof import Headroom, StateError
from tests.core.child import in_child
from tests.core.full_table import fill, is_full, limit
from tests.core.own_table import table


def refusing(times: int, number: int = errno.EMFILE) -> Callable[[], str]:
    """An operation that finds the table full this often, without a full table."""
    calls = iter([OSError(number, os.strerror(number))] * times)

    def operation() -> str:
        for error in calls:
            raise error
        return "done"

    return operation


def test_accept_survives_a_full_table() -> None:
    def check() -> None:
        limit(20)
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            Headroom(1, paths=["accept"]) as headroom,
        ):
            with socket.create_connection(listener.getsockname()) as client:
                taken = fill()
                with pytest.raises(OSError, match="Too many open files"):
                    listener.accept()

                connection, _ = headroom.run("accept", listener.accept)

                with connection:
                    client.send(b"in")
                    assert connection.recv(2) == b"in"
                    assert headroom.drawn == {"accept": 1}
                    assert headroom.held == 0
                    for _ in range(3):
                        os.close(taken.pop())
                    assert headroom.refill() == 1
            assert repr(headroom) == "<fdproof.Headroom 1 of 1 held>"

    in_child(check)


def test_is_filled_up_again_by_the_run_that_drew() -> None:
    def check() -> None:
        limit(12)
        with Headroom(2, paths=["log"]) as headroom:
            fill()
            headroom.run("log", lambda: fdproof.epoll().close())
            assert headroom.drawn == {"log": 1}
            assert headroom.held == 2
            assert is_full()

    in_child(check)


def test_another_thread_may_take_what_was_released() -> None:
    """Then the next is drawn, and so on until it works or nothing is left."""

    def check() -> None:
        limit(16)

        def robbed() -> fdproof.Descriptor:
            if thefts:
                thief = threading.Thread(target=lambda: stolen.extend(fill()))
                thief.start()
                thief.join()
                thefts.pop()
            return fdproof.epoll()

        with Headroom(3, paths=["path"]) as headroom:
            fill()
            thefts, stolen = [1, 2, 3], list[int]()
            with headroom.run("path", robbed):
                assert headroom.drawn == {"path": 3}
                assert len(stolen) == 4
        with Headroom(1, paths=["path"]) as headroom:
            fill()
            thefts = [1, 2, 3]
            with pytest.raises(OSError, match="Too many open files"):
                headroom.run("path", robbed)
            assert headroom.held == 0

    in_child(check)


def test_two_threads_may_draw_the_last_one() -> None:
    """Whoever comes second gets the kernel's error, and no other."""
    with Headroom(1, paths=["path"]) as headroom:

        def operation() -> None:
            # Another thread draws everything while this one's call fails.
            while headroom._held:
                headroom._held.pop().cancel()
            raise OSError(errno.EMFILE, "full")

        with pytest.raises(OSError, match="full"):
            headroom.run("path", operation)
        assert headroom.held == 1


def test_does_not_draw_while_there_is_room() -> None:
    with Headroom(1, paths=["path"]) as headroom:
        assert headroom.run("path", lambda: 3) == 3
        assert headroom.drawn == {"path": 0}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_draws_as_often_as_it_must(number: int) -> None:
    before = table()
    with Headroom(3, paths=["path", "other"]) as headroom:
        assert headroom.run("path", refusing(3, number)) == "done"
        assert headroom.drawn == {"path": 3, "other": 0}
        assert headroom.held == 3
        with pytest.raises(OSError, match=r"^\[Errno") as caught:
            headroom.run("other", refusing(4, number))
        assert caught.value.errno == number
        assert headroom.held == 3
    assert table() == before


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "no"), ValueError("no"), KeyboardInterrupt("no")]
)
def test_other_errors_pass_through(error: BaseException) -> None:
    def operation() -> None:
        raise error

    with Headroom(1, paths=["path"]) as headroom:
        with pytest.raises(type(error), match="no"):
            headroom.run("path", operation)
        assert headroom.drawn == {"path": 0}


def test_only_named_paths_may_draw() -> None:
    with (
        Headroom(1, paths=["accept"]) as headroom,
        pytest.raises(StateError, match=r"'accep' may not.*'accept'"),
    ):
        headroom.run("accep", lambda: None)


def test_holds_two_numbers_each_and_gives_them_back() -> None:
    before = table()
    headroom = Headroom(3, paths=["path"])
    assert len(table()) == len(before) + 6

    headroom.close()
    headroom.close()

    assert table() == before
    assert headroom.refill() == 0
    with pytest.raises(StateError, match="closed"):
        headroom.run("path", lambda: None)


def test_keeps_none_when_it_cannot_have_all() -> None:
    def check() -> None:
        limit(7)
        before = table()
        with pytest.raises(OSError, match="Too many open files"):
            Headroom(4, paths=["path"])
        assert table() == before

    in_child(check)


@pytest.mark.parametrize(
    ("argument", "count", "paths"),
    [
        *[("count", count, ["path"]) for count in (0, -1, True, 1.0, None, "1")],
        ("paths", 1, []),
        ("paths", 1, "accept"),
    ],
)
def test_names_a_bad_argument(argument: str, count: Any, paths: Any) -> None:
    before = table()
    with pytest.raises(ValueError, match=rf"^{argument}: "):
        Headroom(count, paths=paths)
    assert table() == before
