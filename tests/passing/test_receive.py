"""receive and Message: everything that comes is owned, in order, and nothing else is there."""

import errno
import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fdproof
from fdproof import Descriptor, FlagError, passing
from fdproof.passing import Credentials
from fdproof.process import Process
from tests.core.child import in_child, refuse
from tests.core.full_table import limit
from tests.core.own_table import table
from tests.passing import raw
from tests.passing.raw import KINDS, SO_PASSPIDFD, empty, pair, rights
from tests.process.children import children

each_kind = pytest.mark.parametrize("kind", KINDS)
packets = pytest.mark.parametrize("kind", ["datagram", "seqpacket"])


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with pair() as (near, far):
        yield near, far


@each_kind
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 100, 252, 253])
def test_what_comes_is_owned_and_close_on_exec(kind: str, count: int, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        passing.send(near, b"data", [file] * count)
        before = table()

        with passing.receive(far, 100, count) as message:
            assert message.data == b"data"
            assert type(message.files) is tuple
            assert [type(one) for one in message.files] == [Descriptor] * count
            assert len({one.fileno() for one in message.files}) == count
            for one in message.files:
                assert one.same_file(file)
                assert fcntl.fcntl(one.fileno(), fcntl.F_GETFD) & fcntl.FD_CLOEXEC
            assert (message.credentials, message.process, message.address) == (None, None, None)
            assert message.flags in (0, socket.MSG_EOR)

        assert [one.closed for one in message.files] == [True] * count
        assert table() == before


def test_they_come_in_the_order_in_which_they_were_sent(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    sent = [fdproof.memfd(str(index)) for index in range(20)]
    passing.send(ends[0], b"x", sent)

    with passing.receive(ends[1], 1, 20) as message:
        assert [one.same_file(other) for one, other in zip(message.files, sent, strict=True)] == (
            [True] * 20
        )
    for one in sent:
        one.close()


def test_several_control_messages_are_all_taken(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    number = file.fileno()
    raw.send(ends[0], b"x", rights(number), rights(number, number), rights())

    with passing.receive(ends[1], 1, 3) as message:
        assert len(message.files) == 3


messages = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)), min_size=1, max_size=8)


@packets
@given(sent=messages)
def test_packets_come_one_by_one_as_they_were_sent(kind: str, sent: list[tuple[int, int]]) -> None:
    with pair(kind) as (near, far), fdproof.memfd("x") as file:
        for size, count in sent:
            passing.send(near, bytes(size), [file] * count)
        for size, count in sent:
            with passing.receive(far, 40, 12) as message:
                assert (len(message.data), len(message.files)) == (size, count)
        assert empty(far)


@given(
    sent=messages.map(lambda some: [(size + 1, count) for size, count in some]),
    sizes=st.lists(st.integers(1, 60), min_size=1),
)
def test_a_stream_keeps_bytes_and_descriptors_in_order(
    sent: list[tuple[int, int]], sizes: list[int]
) -> None:
    """However it is cut: no descriptor before its first byte, and none after a later message's."""
    with pair() as (near, far), fdproof.memfd("x") as file:
        for size, count in sent:
            passing.send(near, bytes(size), [file] * count)
        due = []  # for each byte, how many descriptors have come with it or before
        total = 0
        for size, count in sent:
            total += count
            due += [total] * size
        came = length = turn = 0
        while length < len(due):
            with passing.receive(far, sizes[turn % len(sizes)], 12) as message:
                length += len(message.data)
                came += len(message.files)
                turn += 1
                assert came == due[length - 1]
        assert empty(far)


# What comes beside the bytes.


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 252, 253])
def test_credentials_and_pidfd_never_crowd_descriptors_out(
    kind: str, count: int, file: Descriptor
) -> None:
    with pair(kind) as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        far.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
        passing.send(near, b"x", [file] * count)

        with passing.receive(far, 1, count) as message:
            assert len(message.files) == count
            assert message.credentials == Credentials.current()
            assert message.process is not None
            assert message.process.pid == os.getpid()
            assert message.process.fileno() not in {one.fileno() for one in message.files}
        assert message.process.closed


def sent_by_child(sock: socket.socket, *, reap: bool) -> int:
    """Let a child send a byte; it has ended when this returns. Its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            sock.send(b"x")
        finally:
            os._exit(7)
    os.waitid(os.P_PID, pid, os.WEXITED | (0 if reap else os.WNOWAIT))
    return pid


@pytest.mark.requires_kernel("SO_PASSPIDFD", "PIDFD_INFO_EXIT")
@pytest.mark.parametrize("with_credentials", [True, False])
def test_the_process_is_the_sender_itself(
    with_credentials: bool, ends: tuple[socket.socket, socket.socket]
) -> None:
    ends[1].setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, with_credentials)
    pid = sent_by_child(ends[0], reap=False)

    with passing.receive(ends[1], 1) as message:
        assert isinstance(message.process, Process)
        assert message.process.pid == pid
        assert not message.process.owned
        assert message.process.ended
        assert (message.credentials is not None) == with_credentials
        os.waitpid(pid, 0)
        assert message.process.info().returncode == 7
    assert pid not in children()


@pytest.mark.requires_kernel("SO_PASSPIDFD", "pidfds of reaped peers", "PIDFD_INFO_EXIT")
@pytest.mark.parametrize("with_credentials", [True, False])
def test_a_sender_that_was_reaped_is_still_itself(
    with_credentials: bool, ends: tuple[socket.socket, socket.socket]
) -> None:
    ends[1].setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, with_credentials)
    pid = sent_by_child(ends[0], reap=True)

    with passing.receive(ends[1], 1) as message:
        assert message.process is not None
        # The number is for people: without credentials nobody knows it any more.
        assert message.process.pid == (pid if with_credentials else 0)
        assert message.process.wait() == 7


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@pytest.mark.parametrize("room", [1, 2])
def test_an_older_kernel_tells_the_number_if_it_can_be_asked(room: int) -> None:
    """Before 6.13 it stands in /proc, and to look there takes a descriptor. The number is for people."""

    def check() -> None:
        with pair() as (near, far):
            far.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
            passing.send(near, b"x")
            refuse({"ioctl": (errno.ENOTTY, None)})
            limit(room)
            with passing.receive(far, 1) as message:
                assert message.process is not None
                assert message.process.pid == (os.getpid() if room > 1 else 0)
                message.process.send_signal(0)

    in_child(check)


@pytest.mark.parametrize("kind", ["path", "abstract", "none"])
def test_the_address_of_a_datagram_is_its_senders(kind: str, tmp_path: Path) -> None:
    name: Any = {
        "path": str(tmp_path / "near"),
        "abstract": f"\0fdproof {os.getpid()} near".encode(),
        "none": None,
    }[kind]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
            far.bind(b"")
            if name is not None:
                near.bind(name)
            passing.send(near, b"x", address=far.getsockname())
            assert passing.receive(far, 1).address == name


def test_an_answer_finds_its_way_by_the_address(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
            near.bind(str(tmp_path / "nähe"))
            far.bind(b"")
            passing.send(near, b"?", address=far.getsockname())
            passing.send(far, b"!", address=passing.receive(far, 1).address)
            assert passing.receive(near, 1).data == b"!"


def test_another_kind_of_socket_brings_bytes_alone() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
        far.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
            near.sendto(b"x", far.getsockname())
            message = passing.receive(far, 10, 3)
    assert (message.data, message.files, message.address) == (b"x", (), None)


# Peeking, the end, sizes.


@each_kind
def test_peeking_brings_descriptors_of_its_own_each_time(kind: str, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        passing.send(near, b"data", [file])
        with passing.receive(far, 100, 1, peek=True) as first:
            with passing.receive(far, 100, 1, peek=True) as second:
                with passing.receive(far, 100, 1) as third:
                    assert first.data == second.data == third.data == b"data"
                    numbers = {one.files[0].fileno() for one in (first, second, third)}
                    assert len(numbers) == 3
        assert empty(far)


@pytest.mark.parametrize("kind", ["stream", "seqpacket"])
def test_the_end_is_an_empty_message(kind: str) -> None:
    with pair(kind) as (near, far):
        near.close()
        message = passing.receive(far, 100, 5)
        assert (message.data, message.files) == (b"", ())


@packets
def test_an_empty_packet_with_files_is_told_from_the_end_by_its_files(
    kind: str, file: Descriptor
) -> None:
    with pair(kind) as (near, far):
        passing.send(near, b"", [file])
        with passing.receive(far, 100, 5) as message:
            assert (message.data, len(message.files)) == (b"", 1)


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 30_000])
@pytest.mark.parametrize("extra", [0, 1, 5000])
def test_data_of_any_size_is_exact(
    size: int, extra: int, ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    data = os.urandom(size)
    passing.send(ends[0], data, [file])

    with passing.receive(ends[1], size + extra, 1) as message:
        assert message.data == data


def test_waitall_waits_for_all(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].send(b"ab")
    sender = threading.Timer(0.02, ends[0].send, [b"cd"])
    sender.start()

    assert passing.receive(ends[1], 4, flags=socket.MSG_WAITALL).data == b"abcd"
    sender.join()


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((0,), ValueError, "max_bytes: 0 is not between 1 and 2147483647"),
        ((-1,), ValueError, "max_bytes: -1 is not between"),
        ((2**31,), ValueError, "max_bytes: 2147483648 is not between"),
        ((2**70,), ValueError, "max_bytes: 1180591620717411303424 is not between"),
        ((1.0,), TypeError, "max_bytes: takes an int, not 1.0"),
        ((True,), TypeError, "max_bytes: takes an int, not True"),
        ((1, -1), ValueError, "max_files: -1 is not between"),
        ((1, 254), ValueError, "max_files: one message carries at most 253 .*, not 254: .*Channel"),
        ((1, None), TypeError, "max_files: takes an int, not None"),
    ],
)
def test_bad_sizes_are_named_and_the_message_stays(
    arguments: tuple[Any, ...],
    kind: type[Exception],
    text: str,
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].send(b"x")
    with pytest.raises(kind, match=text):
        passing.receive(ends[1], *arguments)
    assert ends[1].recv(10) == b"x"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (socket.MSG_PEEK, r"MSG_PEEK does not belong here: pass peek=True to receive\(\)"),
        (socket.MSG_TRUNC, "MSG_TRUNC does not belong here: .* TruncatedError"),
        (socket.MSG_CTRUNC, "MSG_CTRUNC does not belong here: .* TruncatedError"),
        (socket.MSG_OOB, "MSG_OOB does not belong here: urgent bytes"),
        (socket.MSG_ERRQUEUE, "MSG_ERRQUEUE does not belong here"),
        (
            socket.MSG_NOSIGNAL,
            "0x4000 does not belong here: known are MSG_DONTWAIT and MSG_WAITALL",
        ),
        (-5, "-5 is no flag"),
        (False, "False is no flag"),
    ],
)
def test_flags_that_do_not_belong_are_refused_by_name(
    flags: Any, text: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    ends[0].send(b"x")
    with pytest.raises(FlagError, match=text):
        passing.receive(ends[1], 1, flags=flags)
    assert ends[1].recv(10) == b"x"


def test_the_flag_that_is_always_set_may_be_given(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ends[0].send(b"x")
    message = passing.receive(ends[1], 1, flags=socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
    assert (message.data, message.flags) == (b"x", 0)


def test_a_peer_that_closed_with_something_unread_is_econnreset(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    passing.send(ends[1], b"unread", [file])
    ends[0].close()

    with pytest.raises(ConnectionResetError) as reset:
        passing.receive(ends[1], 1, 1)
    assert reset.value.errno == errno.ECONNRESET


def test_what_is_no_socket_is_said_by_the_kernel(file: Descriptor) -> None:
    with pytest.raises(OSError, match="Socket operation on non-socket"):
        passing.receive(file, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        passing.receive(999_999, 1)
    with pytest.raises(TypeError, match="sock: takes a descriptor"):
        passing.receive("sock", 1)  # type: ignore[arg-type]


def test_threads_that_receive_at_once_have_owners_of_their_own() -> None:
    before = table()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with pair() as (near, far), fdproof.memfd("x") as file:
                for turn in range(200):
                    count = turn % 7
                    # A waiting call has its owners in its hands while others begin and end.
                    far.settimeout(60 if turn % 3 else None)
                    sender = threading.Thread(
                        target=passing.send, args=(near, b"x", [file] * count)
                    )
                    sender.start()
                    with passing.receive(far, 1, count) as message:
                        assert len(message.files) == count
                        assert all(one.same_file(file) for one in message.files)
                    sender.join()
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert failures == []
    assert table() == before
