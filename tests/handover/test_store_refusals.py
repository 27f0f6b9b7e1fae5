"""A store goes on whatever it is sent: it refuses, says why, and closes what came."""

import errno
import os
import random
import resource
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

import fdproof
from fdproof import passing, process
from fdproof.handover import Store
from fdproof.handover._datagram import RESTORE
from tests.core.child import in_child, refuse
from tests.core.own_table import lowest_free, table
from tests.handover.children import names, served
from tests.handover.stores import Scene, narrow, room_for

pytestmark = pytest.mark.requires_kernel("pidfd_open", "SO_PASSPIDFD")

ME = os.getuid()
NOBODY = 65534


BAD_MESSAGES: dict[str, tuple[bytes, int]] = {
    "the message is no UTF-8": (b"\xff\xfe=1", 2),
    "the message contains a NUL": (b"A=\0B", 1),
    "the message has a line without an equals sign: 'nonsense'": (b"nonsense", 0),
    "the message has a line without an equals sign: ''": (b"A=1\n\nB=1", 3),
    "FDSTORE=1 brings no descriptor": (b"FDSTORE=1\nFDNAME=x", 0),
    "brings 2 descriptors without FDSTORE=1": (b"READY=1", 2),
    "brings 1 descriptors without FDSTORE=1": (b"FDSTORE=0", 1),
    "brings 3 descriptors without FDSTORE=1": (b"FDSTOREREMOVE=1\nFDNAME=x", 3),
    "BARRIER=1 stands alone and brings one descriptor": (b"BARRIER=1\nREADY=1", 1),
    "BARRIER=1 stands alone and brings one descriptor, none": (b"BARRIER=1", 0),
    "FDPROOF_RESTORE=1 stands alone and brings one descriptor": (b"FDPROOF_RESTORE=1", 2),
    "FDPROOF_RESTORE=1 brings no Unix socket of the type SOCK_SEQPACKET": (b"FDPROOF_RESTORE=1", 1),
    "FDNAME: 'a:b' has characters other than printable ASCII without the colon": (
        b"FDSTORE=1\nFDNAME=a:b",
        1,
    ),
    "FDNAME: a name of 256 characters is longer than 255": (
        b"FDSTORE=1\nFDNAME=" + b"x" * 256,
        253,
    ),
    "the datagram is longer than max_bytes=4096": (b"X" * 5000 + b"=1", 5),
}


@pytest.mark.parametrize("reason", BAD_MESSAGES)
def test_a_message_that_cannot_be_is_refused_and_leaves_nothing(scene: Scene, reason: str) -> None:
    data, count = BAD_MESSAGES[reason]
    before = table()
    with fdproof.eventfd() as file:
        scene.send(data, *[file] * count)

    assert len(scene.refused) == 1
    assert reason.removesuffix(", none") in scene.reasons[0] or (
        "is longer than max_bytes=4096" in reason and reason in scene.reasons[0].lower()
    )
    assert (scene.refused[0].uid, scene.refused[0].pid) == (ME, os.getpid())
    assert scene.heard == []
    assert scene.store.kept() == ()
    assert table() == before


def test_a_message_of_all_that_fits_is_read(scene: Scene) -> None:
    files = [fdproof.eventfd() for _ in range(253)]
    scene.send(b"FDSTORE=1\nFDNAME=x\nX=" + b"y" * (4096 - 22), *files)
    for file in files:
        file.close()

    assert names(scene.store.kept()) == ["x"] * 253
    assert scene.refused == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"per_client": 2}, "no room for 2: 1 of 2 for each client are taken"),
        ({"total": 2}, "no room for 2: 1 of 2 for all are taken"),
        ({"per_client": 0}, "no room for 1: 0 of 0 for each client are taken"),
    ],
)
def test_a_full_store_takes_all_of_a_message_or_nothing(
    tmp_path: Path, options: dict[str, int], reason: str
) -> None:
    scene = Scene(tmp_path / "store", **options)
    with (
        scene.store,
        fdproof.eventfd() as one,
        fdproof.eventfd() as other,
        fdproof.eventfd() as third,
    ):
        scene.push("a", one)
        scene.send(b"FDSTORE=1\nFDNAME=b", other, third)

        assert names(scene.store.kept()) in (["a"], [])
        assert reason in scene.reasons
        # What is there already needs no room.
        refused = len(scene.refused)
        if scene.store.kept():
            scene.push("a", one)
            assert len(scene.refused) == refused


def test_limits_below_zero_are_refused(tmp_path: Path) -> None:
    for option in ("per_client", "total"):
        with pytest.raises(ValueError, match=f"^{option}: takes a number from 0 on, not -1"):
            Store(tmp_path / "store", **{option: -1})  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


@pytest.mark.root
def test_users_do_not_see_each_other(tmp_path: Path) -> None:
    """Nor can one remove, or ask for, what is another's."""
    tmp_path.chmod(0o711)
    scene = Scene(tmp_path / "store", mode=0o666)

    def as_nobody() -> None:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        scene.service.remove("a")
        with fdproof.eventfd() as file:
            scene.service.push("a", file)
        with scene.service.restore(60) as handed:
            assert names(list(handed)) == ["a"]
            with handed.take("a") as file:
                os.set_blocking(file.fileno(), False)
                with pytest.raises(BlockingIOError):
                    os.read(file.fileno(), 8)

    with scene.store, served(scene.store), fdproof.eventfd(7) as mine:
        scene.service.push("a", mine)
        in_child(as_nobody)
        scene.service.barrier(60)

        assert [(kept.name, kept.uid) for kept in scene.store.kept()] == [
            ("a", 0),
            ("a", NOBODY),
        ]
        assert scene.refused == []


def test_who_may_not_write_to_the_socket_is_kept_out(scene: Scene) -> None:
    assert os.stat(scene.store.path).st_mode & 0o777 == 0o600


def test_a_sender_that_has_ended_is_refused(scene: Scene) -> None:
    """Whether it was reaped or not: its number may be anybody's."""
    before = table()
    for reap in (True, False):
        pid = os.fork()
        if pid == 0:
            with fdproof.eventfd() as file:
                scene.service.push("x", file)
            os._exit(0)
        if reap:
            os.waitpid(pid, 0)
        else:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        scene.store.handle()
        if not reap:
            os.waitpid(pid, 0)
        assert (scene.refused[-1].uid, scene.refused[-1].pid) in ((ME, pid), (ME, 0))

    assert scene.store.kept() == ()
    assert len(scene.refused) == 2
    assert table() == before


@pytest.mark.root
def test_a_pid_that_is_only_stated_is_the_one_that_is_looked_at(scene: Scene) -> None:
    """Root may state another process: then that one must be alive."""
    with process.spawn(["/bin/true"]) as other:
        os.waitid(os.P_PIDFD, other.fileno(), os.WEXITED | os.WNOWAIT)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            stated = passing.Credentials(other.pid, 0, 0)
            passing.send(sock, b"READY=1", credentials=stated, address=scene.store.path)
            scene.store.handle()
        other.wait()

    assert [one.pid for one in scene.refused] == [other.pid]
    assert "has ended" in scene.reasons[0]


# Hostile clients.


def test_a_full_table_refuses_and_the_store_goes_on(scene: Scene) -> None:
    def check() -> None:
        with fdproof.eventfd() as one:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                passing.send(sock, b"FDSTORE=1", [one] * 50, address=scene.store.path)
            with room_for(3):
                before = table()
                scene.store.handle()
                assert "full (EMFILE" in scene.reasons[0]
                assert table() == before
            scene.push("a", one)
            assert names(scene.store.kept()) == ["a"]

    in_child(check)


def test_the_limit_of_open_files_bounds_what_is_kept(tmp_path: Path) -> None:
    """The store is full before its table is: it can still read, refuse, and lift barriers."""

    def check() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
        scene = Scene(tmp_path / "store")
        pushed = 0
        while not scene.refused:
            with fdproof.eventfd() as file:
                scene.push("x", file)
            pushed += 1
        assert pushed == 257
        assert scene.reasons == ["no room for 1: 256 of 256 for all are taken"]
        files = [fdproof.eventfd() for _ in range(100)]
        scene.send(b"FDSTORE=1", *files)
        assert scene.reasons[1] == "no room for 100: 256 of 256 for all are taken"
        scene.store.close()
        for file in files:
            file.close()

    in_child(check)


def test_a_client_that_does_not_read_its_answer_stops_nobody(full: Scene) -> None:
    with ExitStack() as ends, served(full.store):
        for _ in range(3):
            ours, theirs = fdproof.socketpair(type=socket.SOCK_SEQPACKET)
            ends.enter_context(ours)
            with theirs:
                narrow(theirs)
                full.service.tell({RESTORE: "1"}, [theirs])
        full.service.barrier(60)
        with full.service.restore(60) as handed:
            assert len(handed) == 300
    assert full.refused == []


def test_what_is_removed_while_it_is_handed_over_is_left_out(full: Scene) -> None:
    ours, theirs = fdproof.socketpair(type=socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            narrow(theirs)
            full.send(b"FDPROOF_RESTORE=1", theirs)
        full.service.remove(f"{299:0255}")
        full.store.handle()
        came: list[int] = []
        while not came or came[-1]:
            with passing.receive(ours, 1 << 20, 253) as message:
                came.append(len(message.files))
            full.store.handle()

        assert came == [253, 46, 0]
        assert message.data == b"FDPROOF_RESTORED=299"
        assert full.refused == []


def test_a_client_that_goes_away_in_the_middle_of_its_answer_leaves_nothing(full: Scene) -> None:
    before = os.listdir("/proc/self/fd")
    ours, theirs = fdproof.socketpair(type=socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            narrow(theirs)
            full.send(b"FDPROOF_RESTORE=1", theirs)
        assert len(os.listdir("/proc/self/fd")) == len(before) + 2
    full.store.handle()

    assert os.listdir("/proc/self/fd") == before
    assert full.reasons == ["the answer was not taken: Connection reset by peer"]


def test_random_messages_leave_nothing_and_stop_nothing(scene: Scene) -> None:
    """Fields of the protocol in any combination, with any descriptors, and pure noise."""
    chance = random.Random(4)
    fields = [
        b"FDSTORE=1",
        b"FDSTORE=",
        b"FDSTOREREMOVE=1",
        b"FDNAME=a",
        b"FDNAME=\xc3\xa4",
        b"FDPOLL=0",
        b"BARRIER=1",
        b"FDPROOF_RESTORE=1",
        b"READY=1",
        b"=",
        b"",
        b"\0",
        b"A",
    ]
    before = table()
    with (
        fdproof.eventfd() as event,
        fdproof.memfd("x") as memory,
        fdproof.socketpair(type=socket.SOCK_SEQPACKET) as (packets, there),
        fdproof.socketpair() as (stream, _),
        fdproof.epoll() as epoll,
        fdproof.open("/", fdproof.FileFlags.PATH) as path,
        fdproof.pidfd(os.getpid()) as pidfd,
    ):
        kinds = [event, memory, packets, there, stream, epoll, path, pidfd]
        for _ in range(2000):
            if chance.random() < 0.2:
                data = chance.randbytes(chance.randrange(0, 5000))
            else:
                data = b"\n".join(chance.choices(fields, k=chance.randrange(1, 5)))
            files = chance.choices(kinds, k=chance.choice([0, 0, 1, 1, 2, 9]))
            # Without a byte there is no message in which a descriptor could travel.
            scene.send(data or b"x", *files)
        with served(scene.store), scene.service.restore(60):
            pass
        assert set(names(scene.store.kept())) <= {"a", "stored"}
        for name in ("a", "stored"):
            scene.service.remove(name)
        scene.store.handle()
    scene.store.handle()

    assert scene.store.kept() == ()
    assert table() == before


def test_clients_that_are_killed_mid_way_leave_nothing(scene: Scene) -> None:
    before = table()
    with served(scene.store):
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                while True:
                    with fdproof.eventfd() as file:
                        scene.service.push("x", file)
                        scene.service.restore(60).close()
                        scene.service.remove("x")
            while not scene.heard:
                os.sched_yield()
            scene.heard.clear()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        scene.service.remove("x")
        scene.service.barrier(60)

        assert scene.store.kept() == ()
    assert table() == before


def test_a_message_that_cannot_be_closed_is_refused_and_the_store_goes_on(scene: Scene) -> None:
    def check() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            passing.send(sock, b"READY=1", [0], address=scene.store.path)
        # The number that its descriptor will have.
        refuse({"close": (errno.EIO, (0, lowest_free()))})
        scene.store.handle()
        assert scene.reasons == ["[Errno 5] Input/output error"]
        scene.service.ready()
        scene.store.handle()
        assert [one.fields for one in scene.heard] == [{"READY": "1"}]

    in_child(check)


def test_what_cannot_be_closed_is_reported_and_gone(scene: Scene) -> None:
    """A file of a network may fail at its last moment: that is no reason to end."""

    def check() -> None:
        with fdproof.eventfd() as file:
            scene.push("x", file)
        (kept,) = scene.store.kept()
        refuse({"close": (errno.EIO, (0, kept.file.fileno()))})
        scene.service.remove("x")
        scene.store.handle()
        assert scene.reasons == ["closing 'x': Input/output error"]
        assert scene.store.kept() == ()
        assert scene.heard[-1].fields["FDSTOREREMOVE"] == "1"

    in_child(check)
