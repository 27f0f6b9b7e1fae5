"""Store: keeps what its clients push, gives it back to them alone, and ends clean."""

import errno
import os
import signal
import socket
from pathlib import Path

import anyio
import pytest

import fdproof
from fdproof import passing
from fdproof.handover import Notification, Service, Store
from tests.core.child import in_child, refuse
from tests.core.own_table import table
from tests.handover.children import names, served
from tests.handover.stores import Scene, room_for
from tests.process.children import until

pytestmark = pytest.mark.requires_kernel("pidfd_open", "SO_PASSPIDFD")

ME = os.getuid()


# Keeping and giving back.


def test_what_is_pushed_is_kept_by_name_in_its_order(scene: Scene) -> None:
    with fdproof.eventfd() as one, fdproof.pipe() as (reading, _):
        scene.push("b", one)
        scene.push("a", reading)

    assert [(kept.name, kept.uid, kept.poll) for kept in scene.store.kept()] == [
        ("b", ME, True),
        ("a", ME, True),
    ]
    assert scene.store.kept() == scene.store.kept(ME)
    assert scene.store.kept(ME + 1) == ()
    assert scene.heard[0] == Notification({"FDSTORE": "1", "FDNAME": "b"}, ME, os.getpid())
    assert scene.refused == []


def test_it_is_the_same_file_and_close_on_exec(scene: Scene) -> None:
    with fdproof.eventfd() as one:
        scene.push("x", one)
        (kept,) = scene.store.kept()

        assert kept.file.same_file(one)
        assert not kept.file.inheritable


def test_without_a_name_it_is_called_stored(scene: Scene) -> None:
    with fdproof.eventfd() as one:
        scene.send(b"FDSTORE=1", one)

    assert names(scene.store.kept()) == ["stored"]


def test_the_same_file_is_kept_once(scene: Scene) -> None:
    with fdproof.eventfd() as one, fdproof.eventfd() as other, one.duplicate() as again:
        scene.send(b"FDSTORE=1\nFDNAME=a", one, again, one)
        scene.push("b", again)
        scene.push("c", other)

    assert names(scene.store.kept()) == ["a", "c"]


def test_removing_takes_all_of_the_name(scene: Scene) -> None:
    with fdproof.eventfd() as one, fdproof.eventfd() as other, fdproof.eventfd() as third:
        scene.send(b"FDSTORE=1\nFDNAME=a", one, other)
        scene.push("b", third)
    scene.service.remove("a")
    scene.service.remove("nothing")
    scene.store.handle()

    assert names(scene.store.kept()) == ["b"]
    assert scene.refused == []


def test_several_fields_come_in_one_message(scene: Scene) -> None:
    """As systemd takes them: stored first, removed then."""
    with fdproof.eventfd() as one:
        scene.send(b"READY=1\nFDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=a\n", one)

    assert scene.store.kept() == ()
    assert scene.heard[0].fields["READY"] == "1"


def test_a_service_gets_back_what_it_has_pushed(scene: Scene) -> None:
    with served(scene.store), fdproof.eventfd() as one, fdproof.pipe() as (reading, _):
        scene.service.push("a", one)
        scene.service.push("b", reading)
        for _ in range(2):
            with scene.service.restore(60) as handed:
                assert names(list(handed)) == ["a", "b"]
                with handed.take("a") as again:
                    assert again.same_file(one)
                    assert not again.inheritable


def test_nothing_kept_is_an_empty_answer(scene: Scene) -> None:
    with served(scene.store), scene.service.restore(60) as handed:
        assert len(handed) == 0


def test_more_than_fit_in_one_message_come_back_all(full: Scene) -> None:
    with served(full.store), full.service.restore(60) as handed:
        assert [int(entry.name) for entry in handed] == list(range(300))
        for entry, kept in zip(handed, full.store.kept(), strict=True):
            with handed.take(entry) as again:
                assert again.same_file(kept.file)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_service_and_store_work_in_one_event_loop(tmp_path: Path, backend: str) -> None:
    scene = Scene(tmp_path / "store")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scene.store.serve_async)
            with fdproof.eventfd() as one:
                scene.service.push("a", one)
                await scene.service.barrier_async()
                with await scene.service.restore_async() as handed:
                    assert names(list(handed)) == ["a"]
            scene.store.stop()
        with anyio.move_on_after(0.01) as scope:
            await scene.store.serve_async()
        assert scope.cancelled_caught

    with scene.store:
        anyio.run(main, backend=backend)


def test_a_manager_that_does_not_know_the_question_has_nothing(tmp_path: Path) -> None:
    """It closes what came with it, as systemd does."""
    path = str(tmp_path / "manager")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        pid = os.fork()
        if pid == 0:
            passing.receive(manager, 4096, 1).close()
            os._exit(0)
        with Service(path).restore(60) as handed:
            assert len(handed) == 0
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    "answer",
    [[b"FDNAME=a"], [b"FDPROOF_RESTORED=0"], [b"nonsense"], [b"FDNAME=a\nFDNAME=b"], [b""]],
)
def test_half_an_answer_is_none(tmp_path: Path, answer: list[bytes]) -> None:
    path = str(tmp_path / "manager")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, fdproof.eventfd() as file:
        manager.bind(path)
        pid = os.fork()
        if pid == 0:
            with passing.receive(manager, 4096, 1) as message:
                for data in answer:
                    passing.send(message.files[0], data or b"FDNAME=", [file])
            os._exit(0)
        with pytest.raises(ConnectionResetError, match="the store went away"):
            Service(path).restore(60)
        os.waitpid(pid, 0)


def test_a_store_that_does_not_answer_is_waited_for_in_time(scene: Scene) -> None:
    with pytest.raises(TimeoutError, match=r"^the store has not answered within 0\.01 s$"):
        scene.service.restore(0.01)
    scene.store.handle()
    assert scene.reasons == ["the answer was not taken: Broken pipe"]


def test_a_table_too_full_for_the_answer_owns_what_came(scene: Scene) -> None:
    files = [fdproof.eventfd() for _ in range(20)]
    for file in files:
        scene.push("x", file)
        file.close()

    def check() -> None:
        with served(scene.store), room_for(12):
            before = table()
            with pytest.raises(fdproof.TruncatedError) as caught:
                scene.service.restore(60)
            assert caught.value.reason == "limit"
            assert 0 < caught.value.came < 20
            caught.value.close()
            # The thread closes its end of this client.
            until(lambda: table() == before)
        with served(scene.store), scene.service.restore(60) as handed:
            assert len(handed) == 20

    in_child(check)


# Hanging up.


def test_what_hangs_up_is_forgotten(scene: Scene) -> None:
    here, there = socket.socketpair()
    with here:
        scene.push("connection", here)
        there.close()
    scene.store.handle()

    assert scene.store.kept() == ()


def test_what_hangs_up_stays_if_it_shall_not_be_looked_at(scene: Scene) -> None:
    here, there = socket.socketpair()
    with here:
        scene.push("connection", here, poll=False)
        there.close()
    scene.store.handle()

    assert [(kept.name, kept.poll) for kept in scene.store.kept()] == [("connection", False)]


def test_a_regular_file_never_hangs_up(scene: Scene) -> None:
    with fdproof.memfd("state") as file:
        scene.push("state", file)
    scene.store.handle()

    assert names(scene.store.kept()) == ["state"]


def test_what_lives_on_elsewhere_does_not_wake_a_store_that_has_forgotten_it(
    scene: Scene,
) -> None:
    """An epoll watches files and not numbers: the next one with that number must not suffer."""
    here, there = socket.socketpair()
    with here, fdproof.eventfd() as other:
        scene.push("connection", here)
        scene.service.remove("connection")
        scene.push("other", other)
        there.close()
        scene.store.handle()

        assert names(scene.store.kept()) == ["other"]


# Barriers.


def test_a_barrier_is_lifted_when_all_before_it_was_read(scene: Scene) -> None:
    with fdproof.pipe() as (reading, writing), fdproof.eventfd() as one:
        scene.service.push("a", one)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            passing.send(sock, b"BARRIER=1", (writing,), address=scene.store.path)
        writing.close()
        os.set_blocking(reading.fileno(), False)
        with pytest.raises(BlockingIOError):
            os.read(reading.fileno(), 1)
        scene.store.handle()

        assert os.read(reading.fileno(), 1) == b""
    assert names(scene.store.kept()) == ["a"]
    assert [list(one.fields) for one in scene.heard] == [["FDSTORE", "FDNAME"]]


# Its own life.


def test_it_ends_with_everything_closed_and_its_socket_removed(tmp_path: Path) -> None:
    before = table()
    scene = Scene(tmp_path / "store")
    with scene.store, fdproof.eventfd() as file:
        scene.push("x", file)
        scene.store.stop()
        scene.store.serve()
    scene.store.close()

    assert table() == before
    assert os.listdir(tmp_path) == []


def test_it_is_stopped_from_a_signal_handler(scene: Scene) -> None:
    before = signal.signal(signal.SIGALRM, lambda *_: scene.store.stop())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        scene.store.serve()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_second_one_does_not_take_its_place(scene: Scene) -> None:
    before = table()
    with pytest.raises(OSError, match="somebody listens there"):
        Store(scene.store.path)
    assert table() == before


def test_its_owner_can_keep_things_too(scene: Scene) -> None:
    with fdproof.eventfd() as twin:
        scene.store.keep("a", twin.duplicate(), poll=False)
        scene.store.keep("b", fdproof.eventfd(), uid=ME + 1)
        with twin.duplicate() as again:
            scene.store.keep("c", again)
            assert not again.closed
        with pytest.raises(ValueError, match=r"^name: 'a:b' has characters"):
            scene.store.keep("a:b", twin)

    assert [(kept.name, kept.uid) for kept in scene.store.kept()] == [("a", ME), ("b", ME + 1)]


def test_its_owner_gets_no_more_room_than_others(tmp_path: Path) -> None:
    with Store(tmp_path / "store", per_client=0) as store, fdproof.eventfd() as file:
        with pytest.raises(ValueError, match=r"^file: no room for 1: 0 of 0 for each client"):
            store.keep("a", file)
        assert not file.closed


def test_a_listener_that_fails_does_not_end_the_store(tmp_path: Path) -> None:
    """What the callback raises is the caller's, and the message is closed."""

    def hear(_: Notification) -> None:
        raise LookupError

    before = table()
    with Store(tmp_path / "store", heard=hear) as store, fdproof.eventfd() as file:
        Service(store.path).push("a", file)
        with pytest.raises(LookupError):
            store.handle()
        assert names(store.kept()) == ["a"]
    assert table() == before


def test_without_pidfds_of_senders_there_is_no_store(tmp_path: Path) -> None:
    def check() -> None:
        refuse({"setsockopt": (errno.ENOPROTOOPT, (2, 76))})
        before = table()
        with pytest.raises(fdproof.UnsupportedError, match="SO_PASSPIDFD"):
            Store(tmp_path / "store")
        assert table() == before

    in_child(check)


def test_a_flood_does_not_keep_it_from_ending(tmp_path: Path) -> None:
    """Many messages are read a few at a time."""
    heard: list[Notification] = []

    def hear(notification: Notification) -> None:
        heard.append(notification)
        if len(heard) < 1000:
            service.status("more")

    with Store(tmp_path / "store", heard=hear) as store:
        service = Service(store.path)
        service.status("first")
        store.handle()
        first = len(heard)
        store.stop()
        store.serve()

        assert 1 <= first < 1000
        assert len(heard) < 1000
