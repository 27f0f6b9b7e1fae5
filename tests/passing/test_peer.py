"""peer: the process, user and groups at the other end, and no guess where the kernel is silent."""

import dataclasses
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import fdproof
from fdproof import Descriptor, UnsupportedError, passing
from fdproof.passing import Peer
from tests.core.child import in_child, refuse
from tests.core.full_table import limit
from tests.core.own_table import table
from tests.passing.raw import KINDS, SO_PEERPIDFD, pair

needs_pidfd = pytest.mark.requires_kernel("SO_PEERPIDFD")


@needs_pidfd
@pytest.mark.parametrize("kind", KINDS)
def test_the_peer_of_a_pair_is_whoever_made_it(kind: str) -> None:
    with pair(kind) as (near, _):
        before = table()
        with passing.peer(near) as peer:
            assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
            assert sorted(peer.groups) == sorted(os.getgroups())
            assert peer.process.pid == os.getpid()
            assert peer.process.info().pid == os.getpid()
            assert not peer.process.owned
        assert peer.process.closed
        assert table() == before


@needs_pidfd
@pytest.mark.parametrize("wrap", [lambda s: s.fileno(), lambda s: Descriptor(s.detach())])
def test_the_socket_is_anything_with_a_number(
    wrap: Callable[[socket.socket], int | Descriptor],
) -> None:
    with pair() as (near, _):
        sock = wrap(near)
        with passing.peer(sock) as peer:
            assert peer.pid == os.getpid()
        if isinstance(sock, Descriptor):
            sock.close()


def connected_child(where: str, change: Callable[[], None], end: int) -> int:
    """A child that connects after a change, tells by a byte, and ends when it is answered."""
    pid = os.fork()
    if pid == 0:
        try:
            change()
            with socket.socket(socket.AF_UNIX) as near:
                near.connect(where)
                near.send(b"x")
                near.recv(1)
        finally:
            os._exit(end)
    return pid


def check_groups(groups: list[int], tmp_path: Path) -> None:
    """A child with these groups connects; its peer says so, and follows it to its end."""

    def become() -> None:
        os.setgroups(groups)
        os.setresgid(1234, 2345, 2345)
        os.setresuid(3456, 4567, 4567)

    tmp_path.chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0fdproof {os.getpid()} peer".encode())
        listener.listen()
        pid = connected_child(listener.getsockname(), become, 7)
        try:
            with listener.accept()[0] as far:
                far.recv(1)
                with passing.peer(far) as peer:
                    assert (peer.pid, peer.uid, peer.gid) == (pid, 4567, 2345)
                    assert sorted(peer.groups) == groups
                    assert not peer.process.ended
                    far.send(b"x")
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                    assert peer.process.ended
        finally:
            os.waitpid(pid, 0)


@needs_pidfd
@pytest.mark.root
@pytest.mark.parametrize("count", [0, 1, 3, 65_536])
def test_user_and_groups_are_those_of_the_connecting_process(count: int, tmp_path: Path) -> None:
    check_groups(list(range(100, 100 + count)), tmp_path)


@needs_pidfd
def test_the_peer_of_a_client_is_the_listener() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"")
        listener.listen()
        pid = connected_child(listener.getsockname(), lambda: None, 0)
        with listener.accept()[0] as far, passing.peer(far) as accepted:
            assert accepted.pid == pid
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(listener.getsockname())
                with passing.peer(client) as peer:
                    assert peer.pid == os.getpid()
                    assert not peer.process.same_process(accepted.process)
            far.send(b"x")
        os.waitpid(pid, 0)


@pytest.mark.requires_kernel("SO_PEERPIDFD", "pidfds of reaped peers", "PIDFD_INFO_EXIT")
def test_a_peer_that_was_reaped_is_still_itself() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"")
        listener.listen()
        pid = connected_child(listener.getsockname(), lambda: None, 7)
        with listener.accept()[0] as far:
            far.send(b"x")
            os.waitpid(pid, 0)
            with passing.peer(far) as peer:
                assert peer.pid == pid
                assert peer.process.wait() == 7


# What the kernel does not tell.


def test_no_peer_is_enodata_with_the_reason() -> None:
    with socket.socket(socket.AF_UNIX) as alone, socket.socket(socket.AF_INET) as other:
        for sock in (alone, other):
            before = table()
            with pytest.raises(OSError, match="sock: has no peer: it is not connected") as refused:
                passing.peer(sock)
            assert refused.value.errno == errno.ENODATA
            assert table() == before


def test_what_is_no_socket_is_said_by_the_kernel() -> None:
    with fdproof.memfd("x") as file, pytest.raises(OSError, match="non-socket") as refused:
        passing.peer(file)
    assert refused.value.errno == errno.ENOTSOCK
    with pytest.raises(OSError, match="Bad file descriptor"):
        passing.peer(999_999)


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        (
            errno.ENOPROTOOPT,
            UnsupportedError,
            "SO_PEERPIDFD is not available here: it needs Linux 6.5",
        ),
        (errno.ESRCH, ProcessLookupError, "the peer was reaped: before Linux 6.16 only its number"),
        (
            errno.EINVAL,
            ProcessLookupError,
            "the peer was reaped: before Linux 6.16 only its number",
        ),
        (errno.ENFILE, OSError, "Too many open files in system"),
    ],
)
def test_without_a_pidfd_there_is_no_falling_back_to_the_number(
    number: int, kind: type[OSError], text: str
) -> None:
    """As older kernels answer; by a filter, for the rest of a child's life."""

    def check() -> None:
        refuse({"getsockopt": (number, (2, SO_PEERPIDFD))})
        with pair() as (near, _), pytest.raises(kind, match=text):
            passing.peer(near)

    in_child(check)


@needs_pidfd
def test_a_full_table_is_emfile() -> None:
    def check() -> None:
        with pair() as (near, _):
            limit(0)
            with pytest.raises(OSError, match="Too many open files") as refused:
                passing.peer(near)
            assert refused.value.errno == errno.EMFILE

    in_child(check)


@needs_pidfd
@pytest.mark.parametrize("option", [socket.SO_PEERCRED, 59], ids=["SO_PEERCRED", "SO_PEERGROUPS"])
def test_a_later_question_that_fails_leaves_no_pidfd(option: int) -> None:
    def check() -> None:
        with pair() as (near, _):
            before = table()
            refuse({"getsockopt": (errno.ENOMEM, (2, option))})
            with pytest.raises(OSError, match="Cannot allocate memory"):
                passing.peer(near)
            assert table() == before

    in_child(check)


@needs_pidfd
def test_a_peer_is_a_frozen_record_that_closes_its_process() -> None:
    with pair() as (near, _):
        peer = passing.peer(near)
    with pytest.raises(dataclasses.FrozenInstanceError):
        peer.pid = 1  # type: ignore[misc]
    peer.close()
    peer.close()
    with pytest.raises(fdproof.ClosedError):
        peer.__enter__()
    assert isinstance(peer, Peer)
