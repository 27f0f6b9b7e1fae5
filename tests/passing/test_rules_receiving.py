"""How the kernel puts descriptors that arrive into the table: each rule as it is, then through fdproof."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator

import pytest

import fdproof
from fdproof import Descriptor, TruncatedError, passing
from tests.core.child import in_child
from tests.core.full_table import limit
from tests.core.own_table import lowest_free, table
from tests.passing.raw import (
    KINDS,
    SO_PASSPIDFD,
    SO_RIGHTS_NOTRUNC,
    empty,
    hung_up,
    pair,
    received,
    rights,
    send,
)
from tests.passing.unchecked import receive_across

each_kind = pytest.mark.parametrize("kind", KINDS)
packets = pytest.mark.parametrize("kind", ["datagram", "seqpacket"])

HEADER = socket.CMSG_LEN(0)


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


@each_kind
@pytest.mark.parametrize(
    ("room", "arrive"),
    [
        (0, 0),
        (1, 0),
        (HEADER - 1, 0),
        (HEADER, 0),
        (HEADER + 3, 0),
        (HEADER + 4, 1),
        (HEADER + 7, 1),
        (HEADER + 8, 2),
        (HEADER + 12, 3),
        (HEADER + 15, 3),
        (HEADER + 16, 4),
        (HEADER + 20, 5),
    ],
)
def test_what_the_room_holds_arrives_and_the_rest_is_dropped(
    kind: str, room: int, arrive: int, file: Descriptor
) -> None:
    """As many whole numbers as fit behind the header; the data is there whatever happens."""
    with pair(kind) as (near, far):
        send(near, b"data", rights(*[file.fileno()] * 5))
        with received(far, room=room) as message:
            assert message.data == b"data"
            assert len(message.numbers) == arrive
            assert message.truncated == (arrive < 5)
        assert empty(far)


@each_kind
@pytest.mark.parametrize(("asked", "arrive"), [(1, 2), (2, 2), (3, 4), (4, 4)])
def test_padding_admits_one_more_than_asked(
    kind: str, asked: int, arrive: int, file: Descriptor
) -> None:
    assert struct.calcsize("P") == 8, "on a 32-bit machine there is no padding"
    with pair(kind) as (near, far):
        send(near, b"x", rights(*[file.fileno()] * 5))
        with received(far, room=socket.CMSG_SPACE(4 * asked)) as message:
            assert len(message.numbers) == arrive


@each_kind
@pytest.mark.parametrize("asked", range(6))
def test_more_than_asked_is_an_error_that_owns_what_came(
    kind: str, asked: int, file: Descriptor
) -> None:
    with pair(kind) as (near, far):
        passing.send(near, b"data", [file] * 6)
        with pytest.raises(TruncatedError) as caught:
            passing.receive(far, 4, asked)
        with caught.value as error:
            assert error.reason == "room"
            assert error.asked == asked
            assert error.came == len(error.message.files) >= asked
            assert error.message.data == b"data"
            assert all(file.same_file(each) for each in error.message.files)


@each_kind
def test_room_for_more_is_no_error(kind: str, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        send(near, b"x", rights(file.fileno()))
        with received(far) as message:
            assert (len(message.numbers), message.flags) == (1, 0)

        passing.send(near, b"x", [file])
        with passing.receive(far, 1, 253) as whole:
            assert len(whole.files) == 1


@each_kind
@pytest.mark.parametrize("free", range(4))
def test_a_full_table_takes_the_first_and_drops_the_rest(kind: str, free: int) -> None:
    """What was installed before stays; the rest is gone, with nothing but MSG_CTRUNC to tell."""

    def check() -> None:
        with pair(kind) as (near, far), fdproof.pipe() as (reader, writer):
            for _ in range(2):
                send(near, b"data", rights(*[writer.fileno()] * 3))
            writer.close()
            limit(free)

            with received(far) as message:
                assert message.data == b"data"
                assert len(message.numbers) == min(free, 3)
                assert message.truncated == (free < 3)
            assert not hung_up(reader.fileno()), "the second message holds it"

            if free < 3:
                with pytest.raises(TruncatedError) as caught:
                    passing.receive(far, 4, 3)
                with caught.value as error:
                    assert (error.reason, error.came, error.asked) == ("limit", free, 3)
                    assert error.message.data == b"data"
            else:
                passing.receive(far, 4, 3).close()
            assert hung_up(reader.fileno())

    in_child(check)


@each_kind
def test_numbers_that_cannot_be_written_stop_it_as_a_full_table_does(
    kind: str, file: Descriptor
) -> None:
    with pair(kind) as (near, far):
        send(near, b"data", rights(*[file.fileno()] * 5))
        before = table()
        answer = receive_across(far, HEADER + 8, writable="before")
        new = sorted(table().keys() - before.keys())
        for number in new:
            os.close(number)
        assert answer == (4, HEADER + 8, socket.MSG_CTRUNC)
        assert len(new) == 2


@each_kind
def test_a_header_that_cannot_be_written_withdraws_nothing(kind: str, file: Descriptor) -> None:
    """The descriptors are in the table, and no control message tells which they are."""
    with pair(kind) as (near, far):
        send(near, b"data", rights(*[file.fileno()] * 3))
        before = table()
        answer = receive_across(far, HEADER, writable="after")
        new = sorted(table().keys() - before.keys())
        for number in new:
            os.close(number)
        assert answer == (4, 0, 0)
        assert len(new) == 3


@pytest.mark.requires_kernel("SO_PASSPIDFD")
@each_kind
def test_a_pidfd_whose_header_cannot_be_written_is_not_installed(kind: str) -> None:
    with pair(kind) as (near, far):
        far.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
        send(near, b"data")
        before = table()
        assert receive_across(far, HEADER, writable="after") == (4, 0, 0)
        assert table() == before


@each_kind
def test_they_get_the_lowest_free_numbers_one_by_one(kind: str, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        send(near, b"x", rights(*[file.fileno()] * 3))
        first = lowest_free()
        second = lowest_free(first + 1)
        third = lowest_free(second + 1)
        with received(far) as message:
            assert message.numbers == [first, second, third]


@each_kind
def test_close_on_exec_is_what_the_receiver_asks_for(kind: str, file: Descriptor) -> None:
    """Neither the sender's flag nor the default: without the flag it is off."""
    with pair(kind) as (near, far), file.duplicate(inheritable=True) as inheritable:
        for sent in (file, inheritable):
            send(near, b"x", rights(sent.fileno()))
            with received(far) as message:
                assert fcntl.fcntl(message.numbers[0], fcntl.F_GETFD) == 0
            send(near, b"x", rights(sent.fileno()))
            with received(far, flags=socket.MSG_CMSG_CLOEXEC) as message:
                assert fcntl.fcntl(message.numbers[0], fcntl.F_GETFD) == fcntl.FD_CLOEXEC

            passing.send(near, b"x", [sent])
            with passing.receive(far, 1, 1) as whole:
                assert not whole.files[0].inheritable


@each_kind
def test_the_returned_flags_repeat_that_close_on_exec_was_asked_for(kind: str) -> None:
    with pair(kind) as (near, far):
        for asked in (0, socket.MSG_CMSG_CLOEXEC):
            send(near, b"x")
            with received(far, flags=asked) as message:
                assert message.flags == asked

        send(near, b"x")
        with passing.receive(far, 1) as whole:
            assert whole.flags == 0, "nothing that the caller did not ask for"


@each_kind
def test_the_file_is_the_senders_with_its_offset(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.memfd("shared") as file:
        os.write(file.fileno(), b"four")
        passing.send(near, b"x", [file])
        with passing.receive(far, 1, 1) as message:
            assert file.same_file(message.files[0])
            os.write(message.files[0].fileno(), b"more")
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 8


@each_kind
def test_each_peek_installs_a_set_of_its_own(kind: str, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        send(near, b"abc", rights(file.fileno(), file.fileno()))
        with (
            received(far, flags=socket.MSG_PEEK) as first,
            received(far, flags=socket.MSG_PEEK) as second,
            received(far) as last,
        ):
            numbers = [*first.numbers, *second.numbers, *last.numbers]
            assert len(set(numbers)) == 6
            assert (first.data, second.data, last.data) == (b"abc", b"abc", b"abc")

        passing.send(near, b"abc", [file])
        with (
            passing.receive(far, 3, 1, peek=True) as peeked,
            passing.receive(far, 3, 1, peek=True) as again,
            passing.receive(far, 3, 1) as whole,
        ):
            owners = [each.files[0] for each in (peeked, again, whole)]
            assert len({owner.fileno() for owner in owners}) == 3
            assert all(file.same_file(owner) for owner in owners)


def test_a_peek_at_a_stream_brings_the_next_descriptors_however_few_its_bytes(
    file: Descriptor,
) -> None:
    """Even if none of their message's bytes are among them, and others lie in between."""
    with pair() as (near, far):
        passing.send(near, b"ab")
        passing.send(near, b"cd")
        passing.send(near, b"ef", [file])
        passing.send(near, b"gh", [file, file])
        with received(far, 1, flags=socket.MSG_PEEK) as message:
            assert (message.data, len(message.numbers)) == (b"a", 1)
        with passing.receive(far, 1, 1, peek=True) as whole:
            assert (whole.data, len(whole.files)) == (b"a", 1)
        with passing.receive(far, 1, 1) as whole:
            assert (whole.data, len(whole.files)) == (b"a", 0)


def test_a_stream_is_read_up_to_the_message_whose_descriptors_were_taken(file: Descriptor) -> None:
    """What came before is merged with it; what came after is not, with or without descriptors."""
    with pair() as (near, far):

        def fill() -> None:
            passing.send(near, b"ab")
            passing.send(near, b"cd", [file])
            passing.send(near, b"ef", [file])
            passing.send(near, b"gh")
            passing.send(near, b"ij")

        expected = [(b"abcd", 1), (b"ef", 1), (b"ghij", 0)]
        fill()
        for data, count in expected:
            with received(far) as message:
                assert (message.data, len(message.numbers)) == (data, count)
        fill()
        for data, count in expected:
            with passing.receive(far, 100, 1) as whole:
                assert (whole.data, len(whole.files)) == (data, count)


def test_the_first_byte_of_a_message_in_a_stream_brings_all_its_descriptors(
    file: Descriptor,
) -> None:
    with pair() as (near, far):
        passing.send(near, b"abc", [file, file])
        with passing.receive(far, 1, 2) as first, passing.receive(far, 10, 2) as rest:
            assert (first.data, len(first.files)) == (b"a", 2)
            assert (rest.data, len(rest.files)) == (b"bc", 0)


def test_a_plain_read_of_a_stream_drops_descriptors_without_a_word() -> None:
    with pair() as (near, far), fdproof.pipe() as (reader, writer):
        passing.send(near, b"abc", [writer])
        writer.close()
        assert far.recv(1) == b"a"
        assert hung_up(reader.fileno())
        with passing.receive(far, 10, 1) as rest:
            assert (rest.data, len(rest.files)) == (b"bc", 0)


@packets
def test_a_plain_read_of_a_packet_drops_descriptors_without_a_word(kind: str) -> None:
    with pair(kind) as (near, far), fdproof.pipe() as (reader, writer):
        passing.send(near, b"abc", [writer])
        writer.close()
        assert far.recv(10) == b"abc"
        assert hung_up(reader.fileno())


def test_reading_no_bytes_of_a_stream_still_takes_the_descriptors(file: Descriptor) -> None:
    """Zero bytes are then no end of the stream."""
    with pair() as (near, far):
        send(near, b"abc", rights(file.fileno()))
        with received(far, 0) as message:
            assert (message.data, len(message.numbers)) == (b"", 1)
        with received(far) as message:
            assert (message.data, message.numbers) == (b"abc", [])


@packets
def test_a_packet_that_is_cut_off_brings_all_its_descriptors(kind: str, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        send(near, b"abc", rights(file.fileno()))
        with received(far, 1) as message:
            assert (message.data, len(message.numbers)) == (b"a", 1)
            assert message.flags == socket.MSG_TRUNC

        passing.send(near, b"abc", [file])
        with pytest.raises(TruncatedError) as caught:
            passing.receive(far, 1, 1)
        with caught.value as error:
            assert (error.reason, error.message.data) == ("data", b"a")
            assert len(error.message.files) == 1


@each_kind
def test_a_receiver_that_is_gone_lets_go_of_everything(kind: str) -> None:
    with fdproof.pipe() as (reader, writer), pair(kind) as (near, far):
        passing.send(near, b"x", [writer])
        writer.close()
        assert not hung_up(reader.fileno())
        far.close()
        assert hung_up(reader.fileno())


@pytest.mark.requires_kernel("SO_RIGHTS_NOTRUNC")
@each_kind
def test_an_option_against_truncation_changes_nothing_where_nothing_is_denied(
    kind: str, file: Descriptor
) -> None:
    with pair(kind) as (near, far):
        far.setsockopt(socket.SOL_SOCKET, SO_RIGHTS_NOTRUNC, 1)
        passing.send(near, b"x", [file])
        with passing.receive(far, 1, 1) as message:
            assert file.same_file(message.files[0])
