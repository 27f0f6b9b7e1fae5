"""Who a message says that it is from, as the kernel has it: each rule, then through fdproof."""

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from functools import partial

import pytest

import fdproof
from fdproof import passing
from fdproof.passing import Credentials
from tests.core.child import in_child
from tests.core.full_table import limit
from tests.passing.raw import (
    KINDS,
    SCM_PIDFD,
    SO_PASSPIDFD,
    SO_PEERPIDFD,
    credentials,
    pair,
    received,
    refused,
    rights,
    send,
)
from tests.passing.surroundings import become_ordinary, capable

each_kind = pytest.mark.parametrize("kind", KINDS)
packets = pytest.mark.parametrize("kind", ["datagram", "seqpacket"])

SCM_CREDENTIALS = socket.SCM_CREDENTIALS
SCM_RIGHTS = socket.SCM_RIGHTS
HEADER = socket.CMSG_LEN(0)

# Larger than any that the kernel gives.
NOBODY = 2**30


def wants(sock: socket.socket, *options: int) -> None:
    """Ask the kernel to add to each message what these socket options are about."""
    for option in (socket.SO_PASSCRED, SO_PASSPIDFD):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, option in options)
        except OSError:
            assert option not in options


def me() -> tuple[int, int, int]:
    return os.getpid(), os.getuid(), os.getgid()


@each_kind
def test_credentials_come_to_who_asks_for_them_whether_sent_or_not(kind: str) -> None:
    with pair(kind) as (near, far):
        send(near, b"x", credentials(*me()))
        with received(far) as message:
            assert message.ancillary == []

        wants(far, socket.SO_PASSCRED)
        for sent in ([], [credentials(*me())]):
            send(near, b"x", *sent)
            with received(far) as message:
                assert message.credentials == me()

        passing.send(near, b"x")
        passing.send(near, b"x", credentials=Credentials(*me()))
        with passing.receive(far, 1) as first, passing.receive(far, 1) as second:
            assert first.credentials == second.credentials == Credentials(*me())
            assert first.process is second.process is None


@each_kind
@pytest.mark.parametrize("length", [0, 8, 16])
def test_the_length_of_credentials_is_exact(kind: str, length: int) -> None:
    with pair(kind) as (near, _):
        level, name, data = credentials(*me())
        assert (
            refused(lambda: send(near, b"x", (level, name, (data + bytes(4))[:length]))) == "EINVAL"
        )


@each_kind
def test_the_last_of_several_credentials_counts(kind: str) -> None:
    pid, uid, gid = me()
    with pair(kind) as (near, far):
        wants(far, socket.SO_PASSCRED)
        send(near, b"x", credentials(pid, uid, gid), credentials(pid, uid, gid))
        with received(far) as message:
            assert (message.kinds, message.credentials) == ([SCM_CREDENTIALS], me())


@each_kind
def test_an_ordinary_user_can_only_tell_the_truth(kind: str) -> None:
    """The pid is the own process's, user and group are one of real, effective and saved."""

    def check() -> None:
        become_ordinary()
        pid, uid, gid = me()
        with pair(kind) as (near, far):
            wants(far, socket.SO_PASSCRED)
            for lie in [
                (os.getppid(), uid, gid),
                (NOBODY, uid, gid),
                (pid, 0, gid),
                (pid, uid, 0),
                (pid, uid + 1, gid),
            ]:
                raw, ours = credentials(*lie), Credentials(*lie)
                assert refused(partial(send, near, b"x", raw)) == "EPERM"
                assert refused(partial(passing.send, near, b"x", credentials=ours)) == "EPERM"
            passing.send(near, b"x", credentials=Credentials(pid, uid, gid))
            with passing.receive(far, 1) as message:
                assert message.credentials == Credentials(pid, uid, gid)

    in_child(check)


@pytest.mark.root
@each_kind
def test_a_saved_user_is_the_truth_too(kind: str) -> None:
    def check() -> None:
        os.setgroups([])
        os.setresgid(61_001, 61_002, 61_003)
        os.setresuid(61_001, 61_002, 61_003)
        with pair(kind) as (near, far):
            wants(far, socket.SO_PASSCRED)
            for which in (61_001, 61_002, 61_003):
                send(near, b"x", credentials(os.getpid(), which, which))
                with received(far) as message:
                    assert message.credentials == (os.getpid(), which, which)
            send(near, b"x")
            with received(far) as message:
                assert message.credentials == (os.getpid(), 61_001, 61_001), "the real ones"

    in_child(check)


@pytest.mark.root
@each_kind
def test_root_can_say_anything_about_processes_that_exist(kind: str) -> None:
    if not capable("CAP_SYS_ADMIN"):
        pytest.skip("needs CAP_SYS_ADMIN")
    with pair(kind) as (near, far):
        wants(far, socket.SO_PASSCRED)
        forged = Credentials(os.getppid(), 12_345, 54_321)
        passing.send(near, b"x", credentials=forged)
        with passing.receive(far, 1) as message:
            assert message.credentials == forged

        assert refused(lambda: send(near, b"x", credentials(NOBODY, 0, 0))) == "ESRCH"
        missing = Credentials(NOBODY, 0, 0)
        assert refused(lambda: passing.send(near, b"x", credentials=missing)) == "ESRCH"


@pytest.mark.root
@pytest.mark.requires_kernel("SO_PASSPIDFD", "PIDFD_GET_INFO")
@each_kind
def test_the_pidfd_is_of_the_process_that_root_says_it_is(kind: str) -> None:
    if not capable("CAP_SYS_ADMIN"):
        pytest.skip("needs CAP_SYS_ADMIN")
    with pair(kind) as (near, far):
        wants(far, SO_PASSPIDFD)
        passing.send(near, b"x", credentials=Credentials(os.getppid(), 0, 0))
        with passing.receive(far, 1) as message:
            assert message.process is not None
            assert message.process.info().process == message.process.pid == os.getppid()


@pytest.mark.parametrize(
    ("options", "merged"), [((), [b"abcd"]), ((socket.SO_PASSCRED,), [b"ab", b"cd"])]
)
def test_a_stream_does_not_merge_data_of_different_senders(
    options: tuple[int, ...], merged: list[bytes]
) -> None:
    """Unless nobody asks who they are."""
    with pair() as (near, far):
        wants(far, *options)
        near.send(b"ab")
        in_child(lambda: near.sendall(b"cd"))
        for data in merged:
            with passing.receive(far, 100) as message:
                assert message.data == data


@each_kind
@pytest.mark.parametrize(
    ("room", "whole", "kinds"),
    [
        (HEADER - 1, False, []),
        (HEADER, False, [SCM_CREDENTIALS]),
        (HEADER + 8, False, [SCM_CREDENTIALS]),
        (socket.CMSG_LEN(12), True, [SCM_CREDENTIALS]),
        (socket.CMSG_SPACE(12) + HEADER, True, [SCM_CREDENTIALS]),
        (socket.CMSG_SPACE(12) + HEADER + 4, True, [SCM_CREDENTIALS, SCM_RIGHTS]),
    ],
)
def test_credentials_come_first_and_crowd_descriptors_out(
    kind: str, room: int, whole: bool, kinds: list[int]
) -> None:
    """Even a part of them, which a reader must not take for credentials."""
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        wants(far, socket.SO_PASSCRED)
        send(near, b"x", rights(file.fileno()))
        with received(far, room=room) as message:
            assert message.kinds == kinds
            assert message.credentials == (me() if whole else message.credentials)
            assert (message.credentials == me()) == whole
            assert message.truncated == (SCM_RIGHTS not in kinds)

        passing.send(near, b"x", [file])
        with passing.receive(far, 1, 1) as ours:
            assert ours.credentials == Credentials(*me())
            assert file.same_file(ours.files[0])


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
def test_a_pidfd_of_the_sender_comes_to_who_asks_for_it(kind: str) -> None:
    with pair(kind) as (near, far):
        wants(far, SO_PASSPIDFD)
        send(near, b"x")
        with received(far) as message:
            assert message.kinds == [SCM_PIDFD]
            assert fcntl.fcntl(message.pidfd or -1, fcntl.F_GETFD) == fcntl.FD_CLOEXEC

        passing.send(near, b"x")
        with passing.receive(far, 1) as whole, fdproof.process.Process.current() as current:
            assert whole.process is not None
            assert whole.process.pid == os.getpid()
            assert whole.process.same_process(current)
            assert not whole.process.owned
            assert whole.credentials is None


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
@pytest.mark.parametrize(
    ("room", "kinds"),
    [
        (0, []),
        (HEADER, []),
        (HEADER + 4, [SCM_RIGHTS]),
        (socket.CMSG_SPACE(4) + HEADER, [SCM_RIGHTS]),
        (socket.CMSG_SPACE(4) + HEADER + 4, [SCM_RIGHTS, SCM_PIDFD]),
    ],
)
def test_a_pidfd_comes_last_and_is_crowded_out(kind: str, room: int, kinds: list[int]) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        wants(far, SO_PASSPIDFD)
        send(near, b"x", rights(file.fileno()))
        with received(far, room=room) as message:
            assert message.kinds == kinds
            assert message.truncated == (SCM_PIDFD not in kinds)


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
def test_all_three_come_in_their_order(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        wants(far, socket.SO_PASSCRED, SO_PASSPIDFD)
        send(near, b"x", rights(file.fileno()))
        with received(far) as message:
            assert message.kinds == [SCM_CREDENTIALS, SCM_RIGHTS, SCM_PIDFD]

        passing.send(near, b"x", [file] * 253)
        with passing.receive(far, 1, 253) as whole:
            assert len(whole.files) == 253
            assert whole.credentials == Credentials(*me())
            assert whole.process is not None


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
@pytest.mark.parametrize("free", [0, 1, 2])
def test_a_pidfd_that_cannot_be_made_leaves_a_negative_errno(kind: str, free: int) -> None:
    """The descriptors take the last numbers; nothing in the flags tells that the pidfd is missing."""

    def check() -> None:
        with pair(kind) as (near, far), fdproof.memfd("sent") as file:
            wants(far, SO_PASSPIDFD)
            for _ in range(2):
                send(near, b"x", rights(*[file.fileno()] * free))
            limit(free)
            # A stream would join the two, where they carry no descriptors.
            with received(far, 1) as message:
                assert len(message.numbers) == free
                assert message.pidfd == -errno.EMFILE
                assert message.flags == 0
            with pytest.raises((OSError, fdproof.TruncatedError)) as caught:
                passing.receive(far, 1, free)
            if isinstance(caught.value, fdproof.TruncatedError):
                caught.value.close()

    in_child(check)


@pytest.mark.requires_kernel("SO_PASSPIDFD", "pidfds of reaped peers")
@each_kind
def test_a_sender_that_was_reaped_has_a_pidfd_still(kind: str) -> None:
    with pair(kind) as (near, far):
        wants(far, SO_PASSPIDFD)
        in_child(lambda: near.sendall(b"x"))
        with passing.receive(far, 1) as message:
            assert message.process is not None
            assert message.process.ended


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
def test_a_pidfd_cannot_be_sent_as_one(kind: str) -> None:
    """It is the kernel that says who the sender is."""
    with pair(kind) as (near, _), fdproof.pidfd(os.getpid()) as pidfd:
        level, _, number = rights(pidfd.fileno())
        assert refused(lambda: send(near, b"x", (level, SCM_PIDFD, number))) == "EINVAL"


@each_kind
def test_both_ends_of_a_pair_have_their_maker_as_peer(kind: str) -> None:
    with pair(kind) as (near, far):
        for end in (near, far):
            with passing.peer(end) as peer:
                assert (peer.pid, peer.uid, peer.gid) == me()
                assert set(peer.groups) == set(os.getgroups())


@pytest.mark.requires_kernel("SO_PEERPIDFD")
def test_the_peer_of_a_connection_is_who_connected_and_of_a_listener_who_listened() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # The kernel chooses a name.
        listener.bind("")
        listener.listen()

        def connect() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(listener.getsockname())
                with passing.peer(client) as peer:
                    assert peer.pid == os.getppid()

        in_child(connect)
        connection, _ = listener.accept()
        with connection:
            number = connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
            assert fcntl.fcntl(number, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
            os.close(number)


@pytest.mark.requires_kernel("SO_PEERPIDFD", "pidfds of reaped peers")
def test_a_peer_that_was_reaped_has_a_pidfd_still() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()

        def connect() -> None:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(listener.getsockname())

        in_child(connect)
        connection, _ = listener.accept()
        with connection, passing.peer(connection) as peer:
            assert peer.process.ended
            assert not peer.process.owned


@pytest.mark.requires_kernel("SO_PEERPIDFD")
@pytest.mark.parametrize(
    "make",
    [
        lambda: socket.socket(socket.AF_UNIX),
        lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        lambda: socket.socket(socket.AF_INET),
    ],
    ids=["not connected", "datagram", "internet"],
)
def test_who_has_no_peer_has_no_pidfd_and_credentials_that_mean_nothing(
    make: Callable[[], socket.socket],
) -> None:
    with make() as sock:
        assert refused(lambda: sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)) == "ENODATA"
        nothing = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        assert nothing == credentials(0, -1, -1)[2]
        assert refused(lambda: passing.peer(sock)) == "ENODATA"


@pytest.mark.requires_kernel("SO_PEERPIDFD")
def test_a_peers_pidfd_needs_a_free_number() -> None:
    def check() -> None:
        with pair() as (near, _):
            limit(0)
            assert refused(lambda: near.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)) == "EMFILE"
            assert refused(lambda: passing.peer(near)) == "EMFILE"

    in_child(check)
