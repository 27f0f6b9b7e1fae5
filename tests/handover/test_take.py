"""take and ready: whatever becomes of the predecessor, somebody serves, and only one."""

import os
import socket
from pathlib import Path

import pytest

import fdproof
from fdproof import StateError, handover
from fdproof.handover import Connection, Taken, _take
from fdproof.handover._succession import Line
from fdproof.handover._waiting import Blocking
from fdproof.passing._deadline import Deadline
from tests.handover.restarts import (
    PREDECESSOR,
    each_way,
    in_thread,
    predecessor,
    ready,
    take,
)

pytestmark = pytest.mark.requires_kernel("SO_PASSPIDFD", "SO_PEERPIDFD")

OFFERED = PREDECESSOR.index("say offer") + 1
LIVE = PREDECESSOR.index("say live") + 1
RECEIVED = PREDECESSOR.index("hear received") + 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def take_over(way: str, place: Path) -> tuple[Taken, list[Connection]]:
    """Take and say ready; the caller closes what comes of it."""
    taken = take(way, place)
    try:
        return taken, ready(way, taken)
    except BaseException:
        taken.close()
        raise


@each_way
def test_where_nobody_offers_this_is_the_first(way: str, place: Path) -> None:
    for _ in range(2):
        with take(way, place) as taken:
            assert not taken
            assert not taken.sockets
            assert not taken.committed
            assert taken.predecessor is None
            assert ready(way, taken) == []
            assert taken.committed
            assert repr(taken) == "<fdproof.handover.Taken from nobody>"
        # What a dead process left is nobody, too.
        with socket.socket(socket.AF_UNIX) as dead:
            if not place.exists():
                dead.bind(str(place))


@each_way
@pytest.mark.parametrize(
    ("steps", "ending"),
    [
        *((steps, "die") for steps in range(len(PREDECESSOR) + 1)),
        # Before that, a child that lives on has the place as well.
        *((steps, "fork") for steps in range(OFFERED, len(PREDECESSOR) + 1)),
    ],
)
def test_a_predecessor_that_dies_is_replaced_with_what_it_gave(
    steps: int, ending: str, way: str, place: Path
) -> None:
    with predecessor(place) as other, in_thread(lambda: take_over(way, place)) as ended:
        for step in ["connect", *PREDECESSOR[:steps]]:
            assert other.do(step) == ""
        other.go(ending)
    ((taken, connections),) = ended
    with taken:
        assert taken.committed
        assert bool(taken) == (steps >= OFFERED)
        assert [entry.name for entry in taken.sockets] == (["http"] * 2 if taken else [])
        assert [connection.state for connection in connections] == (
            [b"its\nstate"] if steps >= LIVE else []
        )
        for connection in connections:
            assert connection.socket.family == socket.AF_UNIX
            connection.socket.close()
        assert ready(way, taken) == []
        for listener in taken.sockets.take_sockets("http"):
            with listener, socket.create_connection(listener.getsockname()):
                assert listener.family == socket.AF_INET
                listener.accept()[0].close()
        with handover.offer(taken, {"place": 0}), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place))
    assert not place.exists()


@each_way
@pytest.mark.parametrize("ending", ["decline", "leave"])
@pytest.mark.parametrize("steps", range(OFFERED, len(PREDECESSOR)))
def test_a_predecessor_that_goes_on_is_not_replaced(
    steps: int, ending: str, way: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_take, "_DYING", 0.05)
    with predecessor(place) as other:
        with in_thread(lambda: take_over(way, place)) as ended:
            for step in ["connect", *PREDECESSOR[:steps], ending]:
                assert other.do(step) == ""
        (error,) = ended
        assert isinstance(error, ConnectionAbortedError)
        assert str(error).endswith(
            "goes on without this one: it does not want to"
            if ending == "decline"
            else "the predecessor ended the conversation, and has not ended itself within 0.05 s"
        )
        assert place.exists()


@each_way
def test_a_predecessor_that_declines_at_once_says_why(way: str, place: Path) -> None:
    with predecessor(place) as other, in_thread(lambda: take(way, place)) as ended:
        for step in ("connect", "decline"):
            other.do(step)
    with pytest.raises(ConnectionAbortedError, match="it does not want to"):
        raise ended[0]


@each_way
def test_a_predecessor_that_hangs_is_left_alone(way: str, place: Path) -> None:
    with predecessor(place) as other:
        with in_thread(lambda: take(way, place, timeout=0.1)) as ended:
            other.do("connect")
        assert isinstance(ended.pop(), TimeoutError)


@each_way
@pytest.mark.parametrize("steps", range(OFFERED, len(PREDECESSOR)))
def test_a_predecessor_cannot_be_replaced_after_the_time_is_over(
    steps: int, way: str, place: Path
) -> None:
    with predecessor(place) as other:
        with in_thread(lambda: take(way, place)) as ended:
            for step in ["connect", *PREDECESSOR[:OFFERED]]:
                assert other.do(step) == ""
        with ended.pop() as taken:
            with in_thread(lambda: ready(way, taken, timeout=0.2)) as ended:
                for step in PREDECESSOR[OFFERED:steps]:
                    assert other.do(step) == ""
            assert isinstance(ended.pop(), TimeoutError)
            assert not taken.committed
            assert other.do("say done") == "ConnectionAbortedError"
            with pytest.raises(StateError, match=r"^ready\(\) failed, or was cancelled, before"):
                ready(way, taken)
            with pytest.raises(StateError, match=r"^place: is still the predecessor's"):
                handover.offer(taken, {})


def test_an_answer_that_comes_after_the_end_of_the_time_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with predecessor(place) as other:
        with in_thread(lambda: take("blocking", place)) as ended:
            for step in ["connect", *PREDECESSOR[:OFFERED]]:
                assert other.do(step) == ""
        is_done, answers = _take._is_done, []

        def too_early(line: Line) -> bool:
            found = is_done(line)
            answers.append(other.do("say done"))
            return found

        monkeypatch.setattr(_take, "_is_done", too_early)
        with ended.pop() as taken:
            with in_thread(lambda: taken.ready(0.2)) as ended:
                for step in PREDECESSOR[OFFERED:RECEIVED]:
                    assert other.do(step) == ""
            assert isinstance(ended.pop(), TimeoutError)
            assert not taken.committed
        assert answers == ["ConnectionResetError"]


def test_an_answer_that_comes_with_the_end_of_the_time_counts(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with predecessor(place) as other:
        with in_thread(lambda: take("blocking", place)) as ended:
            for step in ["connect", *PREDECESSOR[:OFFERED]]:
                assert other.do(step) == ""
        with ended.pop() as taken:
            waits = iter(PREDECESSOR[OFFERED:])

            async def late(self: Blocking, number: int, deadline: Deadline) -> None:
                """Let the predecessor go on; the last time it is too late when it has."""
                for step in waits:
                    assert other.do(step) == ""
                    if step == "say done":
                        raise deadline.over()
                    if step.startswith("say"):
                        return

            monkeypatch.setattr(Blocking, "readable", late)
            (connection,) = taken.ready(timeout=1)
            connection.socket.close()
            assert taken.committed


def test_leaving_before_ready_lets_the_predecessor_go_on(place: Path) -> None:
    with predecessor(place) as other:
        with in_thread(lambda: take("blocking", place)) as ended:
            for step in ["connect", *PREDECESSOR[:OFFERED]]:
                assert other.do(step) == ""
        with ended.pop() as taken:
            assert str(taken.predecessor.pid) in repr(taken)
            assert "not ready" in repr(taken)
        assert other.do("hear ready") == "ConnectionAbortedError"
        assert place.exists()


def test_a_dead_predecessors_place_is_removed_when_nobody_goes_on_there(place: Path) -> None:
    with predecessor(place) as other, in_thread(lambda: take_over("blocking", place)) as ended:
        for step in ["connect", *PREDECESSOR[:OFFERED]]:
            assert other.do(step) == ""
        other.go("die")
    ((taken, _),) = ended
    assert place.exists()
    taken.close()
    assert not place.exists()


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        (["say take"], "says b'take' out of turn"),
        (["say hello", "hear take", "say all"], "says b'all' out of turn"),
        (
            ["say hello", "hear take", "say offer", "hear ready", "say all"],
            "the predecessor has lost count of its connections",
        ),
    ],
)
def test_who_does_not_keep_to_the_conversation_is_refused(
    steps: list[str], match: str, place: Path
) -> None:
    with predecessor(place) as other:
        with in_thread(lambda: take_over("blocking", place)) as ended:
            for step in ["connect", *steps]:
                assert other.do(step) == ""
        with pytest.raises(OSError, match=match):
            raise ended[0]


def become_somebody() -> None:
    os.setresuid(61_234, 61_234, 61_234)


@pytest.mark.root
def test_another_users_offer_is_refused(place: Path) -> None:
    place.parent.chmod(0o777)
    with predecessor(place, become_somebody) as other:
        with in_thread(lambda: take("blocking", place)) as ended:
            assert other.do("connect") == ""
        with pytest.raises(
            PermissionError, match=r"of user 61234 is at the other end, and only 0 may"
        ):
            raise ended[0]


@pytest.mark.root
def test_another_users_offer_is_taken_if_it_may_be(place: Path) -> None:
    place.parent.chmod(0o777)
    with predecessor(place, become_somebody) as other:
        with in_thread(lambda: take("blocking", place, users=[61_234])) as ended:
            for step in ["connect", *PREDECESSOR[:OFFERED]]:
                assert other.do(step) == ""
        with ended[0] as taken:
            assert taken


def test_what_is_no_connection_is_refused_and_kept() -> None:
    with fdproof.memfd("file") as file, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        with pytest.raises(OSError, match="socket"):
            handover.take(file)
        with pytest.raises(ValueError, match=r"^sock: descriptor .* is no Unix stream socket"):
            handover.take(sock)
        assert not file.closed
        assert sock.fileno() >= 0


def test_a_path_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^path: '/.*x' is longer than the 107 bytes"):
        handover.take(tmp_path / ("x" * 200))
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        handover.take(tmp_path / "file" / "place")
    assert caught.value.filename == str(tmp_path / "file" / "place")
