"""What the standard library does with descriptors that are passed, and what fdproof does in its place.

A Python in which a defect is cured skips the test that shows it, and says so; what fdproof does is
tested everywhere. That asyncio leaves a child and its pipes behind when its pidfd cannot be had is
not about passing: ``tests/check/test_standard_library.py`` finds it by a sweep.
"""

import contextlib
import errno
import fcntl
import os
import platform
import socket
from collections.abc import Iterator
from multiprocessing import reduction
from typing import NamedTuple

import pytest

import fdproof
from fdproof import Descriptor, TruncatedError, passing
from tests.core.child import in_child
from tests.core.full_table import limit
from tests.core.own_table import table
from tests.passing.raw import SO_PASSPIDFD, pair, rights, send


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


def cured() -> None:
    """Skip: this Python does not do any more what the test would show."""
    pytest.skip(f"Python {platform.python_version()} has this cured")


def close(numbers: list[int]) -> None:
    for number in numbers:
        os.close(number)


def wants_credentials(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def test_recv_fds_returns_descriptors_that_any_child_inherits(file: Descriptor) -> None:
    with pair() as (near, far):
        send(near, b"x", rights(file.fileno()))
        _, numbers, _, _ = socket.recv_fds(far, 1, 1)
        inherited = not fcntl.fcntl(numbers[0], fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        close(numbers)
    if not inherited:
        cured()


def test_receive_returns_descriptors_that_no_child_inherits(file: Descriptor) -> None:
    with pair() as (near, far):
        passing.send(near, b"x", [file])
        with passing.receive(far, 1, 1) as message:
            assert fcntl.fcntl(message.files[0], fcntl.F_GETFD) == fcntl.FD_CLOEXEC


def test_recv_fds_drops_descriptors_where_credentials_take_their_room(file: Descriptor) -> None:
    """All that is left of them is a bit of the returned flags."""
    with pair() as (near, far):
        wants_credentials(far)
        send(near, b"x", rights(file.fileno()))
        data, numbers, flags, _ = socket.recv_fds(far, 1, 1)
        close(numbers)
    if numbers:
        cured()
    assert (data, flags) == (b"x", socket.MSG_CTRUNC)


def test_receive_has_room_for_descriptors_and_credentials(file: Descriptor) -> None:
    with pair() as (near, far):
        wants_credentials(far)
        passing.send(near, b"x", [file])
        with passing.receive(far, 1, 1) as message:
            assert file.same_file(message.files[0])
            assert message.credentials is not None
            assert message.credentials.pid == os.getpid()


def test_recv_fds_ignores_its_flags(file: Descriptor) -> None:
    with pair() as (near, far):
        send(near, b"x", rights(file.fileno()))
        far.setblocking(False)
        _, numbers, _, _ = socket.recv_fds(far, 1, 1, socket.MSG_PEEK)
        close(numbers)
        try:
            peeked = far.recv(1) == b"x"
        except BlockingIOError:
            peeked = False
    if peeked:
        cured()


def test_receive_peeks_and_does_not_wait(file: Descriptor) -> None:
    with pair() as (near, far):
        passing.send(near, b"x", [file])
        for peek in (True, False):
            passing.receive(far, 1, 1, peek=peek).close()
        with pytest.raises(BlockingIOError):
            passing.receive(far, 1, 1, flags=socket.MSG_DONTWAIT)


def test_send_fds_ignores_its_flags(file: Descriptor) -> None:
    with pair("datagram") as (near, _):
        try:
            # KERNEL: datagrams know no urgent data, EOPNOTSUPP.
            socket.send_fds(near, [b"x"], [file.fileno()], socket.MSG_OOB)
        except OSError:
            cured()


def test_send_does_not_wait_where_it_must_not(file: Descriptor) -> None:
    with pair() as (near, _):
        # Twice what the buffer takes: the send does what it can, and then says so.
        much = bytes(2 * near.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
        assert 0 < passing.send(near, much, [file], flags=socket.MSG_DONTWAIT) < len(much)
        with pytest.raises(BlockingIOError):
            passing.send(near, much, [file], flags=socket.MSG_DONTWAIT)


def test_send_fds_ignores_its_address(file: Descriptor) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near,
    ):
        far.bind("")
        try:
            socket.send_fds(near, [b"x"], [file.fileno()], 0, far.getsockname())
        except OSError:
            return
    cured()


def test_send_goes_to_its_address(file: Descriptor) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near,
    ):
        far.bind("")
        passing.send(near, b"x", [file], address=far.getsockname())
        with passing.receive(far, 1, 1) as message:
            assert file.same_file(message.files[0])


class Scene(NamedTuple):
    """A message that multiprocessing did not expect, what it says of it, and how many it leaks."""

    sent: int
    claimed: int
    said: str
    leaked: int
    option: int | None = None
    reason: str | None = None
    asked: int = 1


SCENES = {
    "the peer sends one too many": Scene(2, 2, "", 1, reason="room"),
    "the peer sends two too many": Scene(
        3, 3, "AssertionError: Len is 2 but msg[0] is 3", 2, reason="room"
    ),
    "the peer counts wrong": Scene(1, 2, "AssertionError: Len is 1 but msg[0] is 2", 1),
    "the credentials come along": Scene(
        1, 1, "RuntimeError: received 2 items of ancdata", 1, socket.SO_PASSCRED, asked=10
    ),
    "the sender's pidfd comes along": Scene(
        1, 1, "RuntimeError: received 2 items of ancdata", 2, SO_PASSPIDFD, asked=10
    ),
    "nothing but the sender's pidfd comes": Scene(
        0, 1, "RuntimeError: Invalid data received", 1, SO_PASSPIDFD
    ),
}


def leaked_by_multiprocessing(far: socket.socket, asked: int) -> tuple[str, int]:
    """What recvfds says, and how many descriptors it leaves that its caller does not know."""
    before = table()
    said = ""
    try:
        close(reduction.recvfds(far, asked)[:asked])
    except (AssertionError, RuntimeError) as error:
        said = f"{type(error).__name__}: {error}"
    left = sorted(table().keys() - before.keys())
    close(left)
    return said, len(left)


@contextlib.contextmanager
def played(scene: Scene) -> Iterator[socket.socket]:
    """The receiver of the scene's message."""
    with pair() as (near, far), fdproof.memfd("sent") as file:
        if scene.option is not None:
            far.setsockopt(socket.SOL_SOCKET, scene.option, 1)
        sent = [rights(*[file.fileno()] * scene.sent)] if scene.sent else []
        send(near, bytes([scene.claimed]), *sent)
        yield far


each_scene = pytest.mark.parametrize(
    "scene",
    [
        pytest.param(
            scene,
            id=name,
            marks=[pytest.mark.requires_kernel("SO_PASSPIDFD")]
            if scene.option == SO_PASSPIDFD
            else [],
        )
        for name, scene in SCENES.items()
    ],
)


@each_scene
def test_multiprocessing_leaks_when_it_did_not_expect_what_came(scene: Scene) -> None:
    with played(scene) as far:
        said, leaked = leaked_by_multiprocessing(far, scene.asked)
    if not leaked:
        cured()
    assert (said, leaked) == (scene.said, scene.leaked)


@each_scene
def test_receive_owns_whatever_came(scene: Scene) -> None:
    with played(scene) as far:
        before = table()
        if scene.reason is None:
            passing.receive(far, 1, scene.asked).close()
        else:
            with pytest.raises(TruncatedError) as caught:
                passing.receive(far, 1, scene.asked)
            with caught.value as error:
                assert (error.reason, error.came) == (scene.reason, scene.sent)
        assert table() == before


def test_multiprocessing_does_not_say_that_the_table_is_full() -> None:
    """'received 0 items of ancdata' is what its users see."""

    def check() -> None:
        with pair() as (near, far), fdproof.memfd("sent") as file:
            reduction.sendfds(near, [file.fileno()])
            limit(0)
            with pytest.raises(RuntimeError) as caught:
                reduction.recvfds(far, 1)
            assert str(caught.value) == "received 0 items of ancdata"

    in_child(check)


def test_receive_says_that_the_table_is_full_and_what_helps() -> None:
    def check() -> None:
        with pair() as (near, far), fdproof.memfd("sent") as file:
            passing.send(near, b"x", [file])
            limit(1)
            # The number that would have been free.
            with fdproof.open("/dev/null"), pytest.raises(TruncatedError) as caught:
                passing.receive(far, 1, 1)
            assert (caught.value.reason, caught.value.came) == ("limit", 0)
            for word in ("0 of the descriptors", "EMFILE", "RLIMIT_NOFILE", "ulimit -n"):
                assert word in str(caught.value)

    in_child(check)


def test_multiprocessing_does_not_say_how_many_one_message_carries() -> None:
    with pair() as (near, _), fdproof.memfd("sent") as file:
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            reduction.sendfds(near, [file.fileno()] * 254)
        with pytest.raises(OSError, match=r"253 descriptors.*Channel"):
            passing.send(near, b"x", [file] * 254)
