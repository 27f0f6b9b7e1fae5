"""What the kernel does with descriptors that are sent: each rule as it is, then through fdproof."""

import os
import resource
import socket

import pytest

import fdproof
from fdproof import FileFlags, passing
from tests.core.child import in_child
from tests.core.own_table import entry
from tests.passing.raw import (
    KINDS,
    MOST_FILES,
    SO_PASSRIGHTS,
    empty,
    hung_up,
    pair,
    received,
    refused,
    rights,
    send,
)
from tests.passing.surroundings import become_ordinary, capable, io_uring

each_kind = pytest.mark.parametrize("kind", KINDS)
packets = pytest.mark.parametrize("kind", ["datagram", "seqpacket"])


@each_kind
def test_a_message_carries_253_descriptors_and_not_one_more(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        assert send(near, b"x", rights(*[file.fileno()] * MOST_FILES)) == 1
        with received(far) as message:
            assert len(message.numbers) == MOST_FILES

        too_many = [file.fileno()] * (MOST_FILES + 1)
        assert refused(lambda: send(near, b"x", rights(*too_many))) == "EINVAL"
        assert refused(lambda: passing.send(near, b"x", too_many)) == "EINVAL"
        assert empty(far)

        passing.send(near, b"x", too_many[1:])
        with passing.receive(far, 1, MOST_FILES) as whole:
            assert len(whole.files) == MOST_FILES


@each_kind
def test_the_253_are_counted_over_all_control_messages(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        number = file.fileno()
        send(near, b"x", rights(*[number] * 200), rights(*[number] * 53))
        with received(far) as message:
            assert len(message.numbers) == MOST_FILES

        whole = [rights(*[number] * 200), rights(*[number] * 54)]
        assert refused(lambda: send(near, b"x", *whole)) == "EINVAL"


@each_kind
def test_several_control_messages_arrive_as_one(kind: str) -> None:
    with (
        pair(kind) as (near, far),
        fdproof.memfd("first") as first,
        fdproof.memfd("second") as second,
    ):
        messages = [rights(first.fileno()), rights(second.fileno(), first.fileno())]
        send(near, b"x", *messages)
        with received(far) as message:
            assert message.kinds == [socket.SCM_RIGHTS]
            assert [os.fstat(number).st_ino for number in message.numbers] == [
                os.fstat(each.fileno()).st_ino for each in (first, second, first)
            ]

        send(near, b"x", *messages)
        with passing.receive(far, 1, 3) as whole:
            assert [second.same_file(each) for each in whole.files] == [False, True, False]


@each_kind
def test_a_control_message_without_descriptors_is_ignored(kind: str) -> None:
    with pair(kind) as (near, far):
        assert send(near, b"x", (socket.SOL_SOCKET, socket.SCM_RIGHTS, b"")) == 1
        with received(far) as message:
            assert message.ancillary == []

        passing.send(near, b"x", [])
        with passing.receive(far, 1) as whole:
            assert not whole.files


@each_kind
def test_a_partial_number_is_rounded_down(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        level, name, number = rights(file.fileno())
        assert send(near, b"x", (level, name, number + b"\0\0")) == 1
        with received(far) as message:
            assert len(message.numbers) == 1


@each_kind
def test_other_levels_are_ignored_and_other_types_refused(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        number = rights(file.fileno())[2]
        assert send(near, b"x", (socket.IPPROTO_IP, socket.SCM_RIGHTS, number)) == 1
        with received(far) as message:
            assert message.ancillary == []

        assert refused(lambda: send(near, b"x", (socket.SOL_SOCKET, 99, number))) == "EINVAL"


@each_kind
@pytest.mark.parametrize("wrong", [-1, 99_999], ids=["negative", "not open"])
def test_one_wrong_number_fails_the_send_and_no_reference_stays(kind: str, wrong: int) -> None:
    with pair(kind) as (near, far), fdproof.pipe() as (reader, writer):
        number = writer.fileno()
        assert refused(lambda: send(near, b"x", rights(number, wrong))) == "EBADF"
        assert empty(far)
        writer.close()
        assert hung_up(reader.fileno())


@each_kind
def test_a_closed_file_fails_a_send_of_ours_and_no_reference_stays(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.pipe() as (reader, writer):
        assert refused(lambda: passing.send(near, b"x", [writer, 99_999])) == "EBADF"
        assert empty(far)
        writer.close()
        assert hung_up(reader.fileno())


@each_kind
def test_the_reference_is_taken_at_the_send(kind: str) -> None:
    """Nothing that happens to the sender's number afterwards reaches the receiver."""
    with pair(kind) as (near, far), fdproof.pipe() as (reader, writer):
        passing.send(near, b"x", [writer])
        writer.close()
        assert not hung_up(reader.fileno())
        with passing.receive(far, 1, 1) as message:
            os.write(message.files[0].fileno(), b"through")
            assert os.read(reader.fileno(), 100) == b"through"
        assert hung_up(reader.fileno())


@each_kind
def test_what_nobody_received_is_let_go_with_the_socket(kind: str) -> None:
    with fdproof.pipe() as (reader, writer):
        with pair(kind) as (near, _):
            send(near, b"x", rights(writer.fileno()))
            writer.close()
        assert hung_up(reader.fileno())


@each_kind
def test_a_path_descriptor_can_be_sent(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.open("/", FileFlags.PATH) as root:
        passing.send(near, b"x", [root])
        with passing.receive(far, 1, 1) as message:
            assert root.same_file(message.files[0])


@pytest.mark.requires_kernel("io_uring")
@each_kind
def test_an_io_uring_cannot_be_sent(kind: str) -> None:
    with pair(kind) as (near, far), io_uring() as ring:
        assert refused(lambda: send(near, b"x", rights(ring.fileno()))) == "EINVAL"
        assert refused(lambda: passing.send(near, b"x", [ring])) == "EINVAL"
        assert empty(far)


def test_a_stream_loses_descriptors_without_data() -> None:
    """The send succeeds, the descriptors are gone: fdproof does not send."""
    with pair() as (near, far), fdproof.pipe() as (reader, writer):
        assert send(near, b"", rights(writer.fileno())) == 0
        assert empty(far)
        with pytest.raises(ValueError, match="data"):
            passing.send(near, b"", [writer])
        writer.close()
        assert hung_up(reader.fileno())


@packets
def test_a_packet_carries_descriptors_without_data(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        send(near, b"", rights(file.fileno()))
        with received(far) as message:
            assert (message.data, len(message.numbers)) == (b"", 1)

        passing.send(near, b"", [file])
        with passing.receive(far, 1, 1) as whole:
            assert (whole.data, len(whole.files)) == (b"", 1)


def test_out_of_band_data_takes_its_descriptors_along_where_nobody_reads_them() -> None:
    with pair() as (near, far), fdproof.pipe() as (_, writer):
        assert send(near, b"x", rights(writer.fileno()), flags=socket.MSG_OOB) == 1
        assert refused(lambda: far.recvmsg(10, 100, socket.MSG_DONTWAIT)) == "EAGAIN"

        with pytest.raises(fdproof.FlagError, match="OOB"):
            passing.send(near, b"x", [writer], flags=socket.MSG_OOB)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
def test_an_internet_socket_loses_descriptors(kind: socket.SocketKind) -> None:
    """The send succeeds, the descriptors are gone: fdproof does not send."""
    with socket.socket(socket.AF_INET, kind) as server, socket.socket(socket.AF_INET, kind) as near:
        server.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            server.listen()
        near.connect(server.getsockname())
        far = server.accept()[0] if kind == socket.SOCK_STREAM else server
        with far, fdproof.memfd("sent") as file:
            assert send(near, b"x", rights(file.fileno())) == 1
            assert far.recvmsg(10, 1000)[:3] == (b"x", [], 0)

            with pytest.raises((OSError, ValueError), match="Unix"):
                passing.send(near, b"y", [file])
            far.setblocking(False)
            assert refused(lambda: far.recv(10)) == "EAGAIN"


def test_a_netlink_socket_refuses_descriptors() -> None:
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock,
        fdproof.memfd("sent") as file,
    ):
        assert refused(lambda: sock.sendmsg([b"x"], [rights(file.fileno())], 0, (0, 0))) == "EINVAL"


@pytest.mark.requires_kernel("SO_PASSRIGHTS")
@each_kind
def test_a_receiver_can_refuse_descriptors_for_good(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        assert far.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS) == 1
        far.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)

        assert refused(lambda: send(near, b"x", rights(file.fileno()))) == "EPERM"
        assert refused(lambda: passing.send(near, b"x", [file])) == "EPERM"
        assert empty(far)
        assert passing.send(near, b"x") == 1


@pytest.mark.requires_kernel("SO_PASSRIGHTS")
@each_kind
def test_refusing_descriptors_is_about_receiving_and_about_what_comes_later(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent") as file:
        near.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
        passing.send(near, b"x", [file])
        far.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
        with passing.receive(far, 1, 1) as message:
            assert len(message.files) == 1


def limited(soft: int) -> None:
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )


def test_a_user_has_one_more_descriptor_in_flight_than_the_senders_limit() -> None:
    """The count is looked at before the new ones are added, and it is strictly above the limit."""

    def check() -> None:
        become_ordinary()
        limited(40)
        with pair() as (near, far), fdproof.memfd("sent") as file:
            sent = 0
            while not (why := refused(lambda: send(near, b"x", rights(file.fileno())))):
                sent += 1
            assert (why, sent) == ("ETOOMANYREFS", 41)

            assert send(near, b"x") == 1, "data alone is not limited"
            with received(far, 1) as message:
                assert len(message.numbers) == 1
            # At the limit, not above it: the next may carry any number.
            assert send(near, b"x", rights(*[file.fileno()] * MOST_FILES)) == 1
            assert refused(lambda: passing.send(near, b"x", [file])) == "ETOOMANYREFS"

    in_child(check)


def test_the_limit_in_flight_is_the_senders_but_the_count_is_the_users() -> None:
    """One process that fills the count starves the others of its user."""

    def check() -> None:
        become_ordinary()
        with pair() as (near, _), fdproof.memfd("sent") as file:
            passing.send(near, b"x", [file] * 100)

            def starved() -> None:
                limited(40)
                with pair() as (elsewhere, _):
                    assert refused(lambda: passing.send(elsewhere, b"x", [file])) == "ETOOMANYREFS"

            in_child(starved)
            passing.send(near, b"x", [file])

    in_child(check)


def test_the_limit_in_flight_does_not_bind_the_privileged() -> None:
    if not capable("CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"):
        pytest.skip("needs CAP_SYS_RESOURCE or CAP_SYS_ADMIN")

    def check() -> None:
        with pair() as (near, _), fdproof.memfd("sent") as file:
            limited(40)
            for _ in range(60):
                send(near, b"x", rights(file.fileno()))

    in_child(check)


@each_kind
def test_the_senders_own_numbers_stay_as_they_are(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("sent", inheritable=True) as file:
        before = entry(file.fileno())
        passing.send(near, b"x", [file])
        with passing.receive(far, 1, 1):
            assert entry(file.fileno()) == before
