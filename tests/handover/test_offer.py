"""offer and wait: whatever becomes of successors, this process serves until one has taken over."""

import contextlib
import errno
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import fdproof
from fdproof import StateError, handover
from fdproof.handover import Offer
from fdproof.handover._succession import Line
from fdproof.process import PIPE, Process, spawn
from tests.core.child import in_child
from tests.core.full_table import fill
from tests.handover.restarts import (
    SUCCESSOR,
    Played,
    each_way,
    in_thread,
    playing,
    ready,
    successor,
    take,
    wait,
)
from tests.process.children import until

pytestmark = pytest.mark.requires_kernel("SO_PASSPIDFD", "SO_PEERPIDFD")

READY = SUCCESSOR.index("say ready") + 1
RECEIVED = SUCCESSOR.index("say received") + 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def serves(listener: socket.socket) -> bool:
    """Whether a client is accepted here."""
    with socket.create_connection(listener.getsockname()), listener.accept()[0]:
        return True


class Live:
    """A live connection of the server, and what became of it."""

    def __init__(self) -> None:
        self.client, self.server = socket.socketpair()
        self.told: list[str] = []

    @contextlib.contextmanager
    def __call__(self) -> Iterator[list[tuple[socket.socket, bytes]]]:
        self.told.append("paused")
        try:
            yield [(self.server, b"its\nstate")]
        except BaseException:
            self.told.append("serves again")
            raise
        self.told.append("given")
        self.server.close()

    def close(self) -> None:
        self.client.close()
        self.server.close()


@pytest.fixture
def live() -> Iterator[Live]:
    with contextlib.closing(Live()) as connection:
        yield connection


def play(other: Played, steps: list[str]) -> None:
    for step in ["connect", *steps]:
        assert other.do(step) == "", step


def expect_one_that_takes_over(
    good: Played, ended: list[Process], offer: Offer, live: Live, listener: socket.socket
) -> None:
    """After a failure all is as it was, for the server and for the next successor."""
    assert offer.successor is None
    assert serves(listener)
    play(good, SUCCESSOR)
    until(lambda: bool(ended))
    assert offer.successor is ended[0]
    assert live.told[-2:] == ["paused", "given"]
    assert "taken by process" in repr(offer)


@each_way
@pytest.mark.parametrize(
    ("steps", "ending"),
    [
        (steps, ending)
        for steps in range(RECEIVED)
        for ending in ("die", "fork", "decline", "leave")
        # Of one that has said nothing, nobody knows which process it was.
        if (steps, ending) not in ((0, "fork"), (1, "fork"))
    ],
)
def test_a_successor_that_fails_before_it_has_taken_over_changes_nothing(
    steps: int, ending: str, way: str, place: Path, live: Live, listener: socket.socket
) -> None:
    failed: list[Exception] = []
    with (
        handover.offer(place, {"http": listener}, connections=live, failed=failed.append) as offer,
        successor(place) as bad,
        successor(place) as good,
        in_thread(lambda: wait(way, offer, timeout=20)) as ended,
    ):
        play(bad, SUCCESSOR[:steps])
        if ending in ("die", "fork"):
            bad.go(ending)
        else:
            assert bad.do(ending) == ""
        until(lambda: bool(failed))
        (error,) = failed
        if ending == "decline":
            assert isinstance(error, ConnectionAbortedError)
            assert "it does not want to" in str(error)
        else:
            assert isinstance(error, ConnectionResetError)
        assert live.told == (["paused", "serves again"] if steps >= READY else [])
        expect_one_that_takes_over(good, ended, offer, live, listener)


@each_way
@pytest.mark.parametrize("steps", range(RECEIVED))
def test_a_successor_that_is_late_has_had_its_turn(
    steps: int, way: str, place: Path, live: Live, listener: socket.socket
) -> None:
    failed: list[Exception] = []
    with (
        handover.offer(
            place, {"http": listener}, connections=live, failed=failed.append, timeout=0.3
        ) as offer,
        successor(place) as bad,
        successor(place) as good,
        in_thread(lambda: wait(way, offer, timeout=20)) as ended,
    ):
        play(bad, SUCCESSOR[:steps])
        until(lambda: bool(failed))
        (error,) = failed
        assert isinstance(error, TimeoutError)
        assert str(error) == "the successor was not ready within 0.3 s"
        if steps == RECEIVED - 1:
            assert bad.do("hear done") == "ConnectionAbortedError"
        expect_one_that_takes_over(good, ended, offer, live, listener)


@each_way
def test_a_successor_that_dies_while_it_says_received_has_not_taken_over(
    way: str, place: Path, live: Live, listener: socket.socket
) -> None:
    paused, go_on = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def slowly() -> Iterator[list[tuple[socket.socket, bytes]]]:
        with live() as connections:
            paused.set()
            go_on.wait(20)
            yield connections

    failed: list[Exception] = []
    with (
        handover.offer(
            place, {"http": listener}, connections=slowly, failed=failed.append
        ) as offer,
        successor(place) as bad,
        successor(place) as good,
        in_thread(lambda: wait(way, offer, timeout=20)) as ended,
    ):
        play(bad, [*SUCCESSOR[:READY], "say received"])
        paused.wait(20)
        with Process.open(int(bad.do("pid"))) as process:
            # Its connection stays open: only the process itself can tell.
            bad.go("fork")
            until(lambda: process.ended)
        go_on.set()
        until(lambda: bool(failed))
        assert isinstance(failed[0], ConnectionResetError)
        assert live.told == ["paused", "serves again"]
        expect_one_that_takes_over(good, ended, offer, live, listener)


@each_way
def test_a_successor_that_dies_once_it_has_taken_over_is_seen_by_its_pidfd(
    way: str, place: Path, live: Live, listener: socket.socket
) -> None:
    with handover.offer(place, {"http": listener}, connections=live) as offer:
        with successor(place) as other, in_thread(lambda: wait(way, offer, timeout=20)) as ended:
            play(other, SUCCESSOR)
            until(lambda: bool(ended))
            assert not ended[0].ended
            other.go("die")
            until(lambda: ended[0].ended)
        assert offer.successor is wait(way, offer)
        assert live.told == ["paused", "given"]
    # It was the successor's to remove.
    assert place.exists()


@each_way
def test_successors_have_their_turn_one_after_the_other(
    way: str, place: Path, listener: socket.socket
) -> None:
    with (
        handover.offer(place, {"http": listener}) as offer,
        successor(place) as first,
        successor(place) as second,
        in_thread(lambda: wait(way, offer, timeout=20)) as ended,
    ):
        play(first, SUCCESSOR[:1])
        play(second, [])
        second.go("hear hello")
        for step in SUCCESSOR[1:READY]:
            assert first.do(step) == ""
        assert not ended
        assert first.do("decline") == ""
        assert second.answer() == ""
        for step in SUCCESSOR[1:]:
            assert second.do(step) == ""


def test_all_of_a_name_are_handed_over(place: Path, listener: socket.socket) -> None:
    with (
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams,
        fdproof.memfd("file") as file,
    ):
        offered: dict[str, Any] = {"http": [listener, six], "log": datagrams, "file": file.fileno()}
        with handover.offer(place, offered) as offer, in_thread(offer.wait):
            with handover.take(place) as taken:
                assert [(one.name, one.family) for one in taken.sockets] == [
                    ("http", socket.AF_INET),
                    ("http", socket.AF_INET6),
                    ("log", socket.AF_UNIX),
                    ("file", None),
                ]
                with taken.sockets.take("file") as same:
                    assert same.same_file(file)
                taken.ready()


@each_way
def test_a_live_connection_goes_over_with_its_state(
    way: str, place: Path, live: Live, listener: socket.socket
) -> None:
    with (
        handover.offer(place, {"http": listener}, connections=live) as offer,
        in_thread(lambda: wait("blocking", offer)),
    ):
        live.client.sendall(b"question")
        with take(way, place) as taken:
            ((connection, state),) = ready(way, taken)
    with connection:
        assert state == b"its\nstate"
        assert connection.recv(100) == b"question"
        connection.sendall(b"answer")
        assert live.client.recv(100) == b"answer"
    assert live.client.recv(100) == b""


def test_a_place_passes_from_process_to_process(place: Path, listener: socket.socket) -> None:
    inode = None
    with handover.take(place) as first:
        first.ready()
        offer = handover.offer(first, {"http": listener})
    for _ in range(3):
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert inode in (None, inode := place.stat().st_ino)
        with offer, in_thread(offer.wait):
            with handover.take(place) as taken:
                assert taken.predecessor is not None
                taken.sockets.take("http").close()
                taken.ready()
                offer = handover.offer(taken, {"http": listener})
    with pytest.raises(OSError, match="somebody listens there"):
        handover.offer(place, {})
    offer.close()
    offer.close()
    assert not place.exists()


@each_way
def test_no_successor_in_time(way: str, place: Path, listener: socket.socket) -> None:
    with handover.offer(place, {"http": listener}) as offer:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                wait(way, offer, timeout=0.02)
        assert repr(offer) == f"<fdproof.handover.Offer of http {str(place)!r}>"
    with pytest.raises(StateError, match="withdrawn"):
        wait(way, offer)


def test_a_second_waiter_is_refused(place: Path, listener: socket.socket) -> None:
    with handover.offer(place, {"http": listener}) as offer, successor(place) as other:
        with in_thread(offer.wait):
            play(other, SUCCESSOR[:1])
            with pytest.raises(StateError, match=r"^somebody else waits"):
                offer.wait(0)
            for step in SUCCESSOR[1:]:
                assert other.do(step) == ""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelling_while_a_successor_takes_over_makes_that_one_fail(
    backend: str, place: Path, live: Live, listener: socket.socket
) -> None:
    async def main(offer: Offer, bad: Played, good: Played) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(offer.wait_async)
            await anyio.to_thread.run_sync(play, bad, SUCCESSOR[:READY])
            while not live.told:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert live.told == ["paused", "serves again"]
        answer = await anyio.to_thread.run_sync(bad.do, "hear done")
        assert answer in ("ConnectionAbortedError", "OSError")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(offer.wait_async)
            await anyio.to_thread.run_sync(play, good, SUCCESSOR)
        assert offer.successor is not None

    with (
        handover.offer(place, {"http": listener}, connections=live) as offer,
        successor(place) as bad,
        successor(place) as good,
    ):
        anyio.run(main, offer, bad, good, backend=backend)


def test_what_the_connections_raise_is_the_callers(place: Path, listener: socket.socket) -> None:
    @contextlib.contextmanager
    def fails() -> Iterator[list[tuple[socket.socket, bytes]]]:
        raise FileNotFoundError("the state is not there")
        yield []

    failed: list[Exception] = []
    with (
        handover.offer(place, {"http": listener}, connections=fails, failed=failed.append) as offer,
        successor(place) as other,
        in_thread(offer.wait) as ended,
    ):
        play(other, SUCCESSOR[:READY])
        until(lambda: bool(ended))
        assert isinstance(ended[0], FileNotFoundError)
        assert failed == []
        assert other.do("hear done") == "ConnectionAbortedError"


@pytest.mark.root
def test_another_user_is_refused_and_told(place: Path, listener: socket.socket) -> None:
    def become_somebody() -> None:
        os.setresuid(61_234, 61_234, 61_234)

    failed: list[Exception] = []
    place.parent.chmod(0o777)
    with (
        handover.offer(place, {"http": listener}, failed=failed.append) as offer,
        successor(place, become_somebody) as other,
        in_thread(lambda: offer.wait(1)) as ended,
    ):
        assert other.do("connect") == "PermissionError"
        place.chmod(0o666)
        assert other.do("connect") == ""
        assert other.do("hear hello") == "ConnectionAbortedError"
        until(lambda: bool(failed))
        assert isinstance(failed[0], PermissionError)
        assert "of user 61234 is at the other end, and only 0 may be: see users=" in str(failed[0])
    assert isinstance(ended[0], TimeoutError)


# Over a socket of its own.


@contextlib.contextmanager
def holding(end: fdproof.Descriptor) -> Iterator[Played]:
    with playing(lambda: Line(end)) as played:
        end.close()
        yield played


@each_way
def test_over_a_socket_of_its_own_there_is_one_successor(
    way: str, listener: socket.socket, live: Live
) -> None:
    ours, theirs = fdproof.socketpair()
    with (
        holding(theirs) as other,
        handover.offer(ours, {"http": listener}, connections=live) as offer,
        in_thread(lambda: wait(way, offer, timeout=20)) as ended,
    ):
        assert repr(offer) == "<fdproof.handover.Offer of http over a socket>"
        pid = int(other.do("pid"))
        play(other, SUCCESSOR)
        until(lambda: bool(ended))
        assert ended[0].pid == pid


@each_way
def test_over_a_socket_of_its_own_a_failure_is_raised(way: str, listener: socket.socket) -> None:
    ours, theirs = fdproof.socketpair()
    with holding(theirs) as other, handover.offer(ours, {"http": listener}) as offer:
        with in_thread(lambda: wait(way, offer, timeout=20)) as ended:
            play(other, SUCCESSOR[:READY])
            other.go("die")
        assert isinstance(ended[0], ConnectionResetError)
        with pytest.raises(StateError, match="the one successor that this offer was for"):
            wait(way, offer)


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("handover.take(3).ready(); sys.stdin.read()", None),
        ("handover.take(3); os._exit(1)", ConnectionResetError),
        ("os._exit(1)", ConnectionResetError),
    ],
)
def test_a_process_starts_its_own_successor(
    program: str, outcome: type[Exception] | None, listener: socket.socket
) -> None:
    argv = [sys.executable, "-c", f"import os, sys; from fdproof import handover; {program}"]
    ours, theirs = fdproof.socketpair()
    with handover.offer(ours, {"http": listener}) as offer:
        with theirs:
            child = spawn(argv, files={3: theirs}, stdin=PIPE)
        with child:
            if outcome is not None:
                with pytest.raises(outcome):
                    offer.wait()
            else:
                assert offer.wait().same_process(child)
    assert child.returncode == (0 if outcome is None else 1)


def test_over_a_socket_of_its_own_it_goes_on_at_a_path(
    place: Path, listener: socket.socket
) -> None:
    ours, theirs = fdproof.socketpair()
    with handover.offer(ours, {"http": listener}) as offer, in_thread(offer.wait):
        with handover.take(theirs) as taken:
            taken.ready()
            with pytest.raises(StateError, match=r"^place: what was taken came over a socket"):
                handover.offer(taken, {})
            with handover.offer(place, {"http": listener}):
                assert place.exists()


# What cannot be offered.


@pytest.mark.parametrize(
    ("sockets", "error", "match"),
    [
        ({"a:b": 0}, ValueError, "^name: "),
        ({"": 0}, ValueError, "^name: it is empty"),
        ({"http": 9999}, OSError, r"descriptor 9999 is not open"),
        ({"http": "socket"}, TypeError, "takes a descriptor"),
    ],
)
def test_what_cannot_be_offered_is_refused(
    sockets: dict[str, int], error: type[Exception], match: str, place: Path
) -> None:
    with pytest.raises(error, match=match):
        handover.offer(place, sockets)
    assert not place.exists()


def test_a_place_that_cannot_be_is_refused(place: Path, listener: socket.socket) -> None:
    place.touch()
    with pytest.raises(FileExistsError):
        handover.offer(place, {"http": listener})
    assert place.is_file()
    with pytest.raises(ValueError, match=r"^timeout: takes None or seconds"):
        handover.offer(place.parent / "other", {"http": listener}, timeout=-1)
    assert not (place.parent / "other").exists()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="is no Unix stream socket"):
            handover.offer(sock, {"http": listener})
        assert sock.fileno() >= 0


def test_a_full_table_is_told_and_the_offer_stands(place: Path, listener: socket.socket) -> None:
    def check() -> None:
        failed: list[Exception] = []
        freed: list[int] = []

        def fail(error: Exception) -> None:
            failed.append(error)
            while freed:
                os.close(freed.pop())

        with (
            handover.offer(place, {"http": listener}, failed=fail) as offer,
            successor(place) as other,
            in_thread(offer.wait),
        ):
            assert other.do("start") == ""
            freed += fill()
            play(other, SUCCESSOR)
        assert [type(error) for error in failed] == [OSError]
        assert isinstance(failed[0], OSError)
        assert failed[0].errno == errno.EMFILE

    in_child(check)
