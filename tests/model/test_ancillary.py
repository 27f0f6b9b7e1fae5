"""Descriptors, credentials and pidfds in messages: who gets what, when the buffer or the table is short."""

import errno
import os
import socket

import pytest

from fdproof.model import Credentials, Kernel, Pidfd, Received, Rights, Task
from tests.model.failing import failing

STREAM, DATAGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
PEEK, CTRUNC, DONTWAIT = socket.MSG_PEEK, socket.MSG_CTRUNC, socket.MSG_DONTWAIT
CMSG_CLOEXEC = 0x40000000
SO_PASSCRED, SO_PASSPIDFD, SO_PASSRIGHTS = socket.SO_PASSCRED, 76, 83

every_kind = pytest.mark.parametrize("kind", [STREAM, DATAGRAM, SEQPACKET])


def space(count: int) -> int:
    """CMSG_SPACE of so many ints."""
    return 16 + (4 * count + 7) // 8 * 8


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


def rights(received: Received) -> tuple[int, ...]:
    """The numbers that a message brought."""
    return tuple(
        number for item in received.control if isinstance(item, Rights) for number in item.numbers
    )


@every_kind
def test_a_received_descriptor_is_the_same_file_at_the_lowest_number(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    reading, writing = task.pipe2()
    task.sendmsg(a, b"x", [Rights((reading, writing))])
    received = task.recvmsg(b, 10, space(2))
    assert received == Received(b"x", (Rights((4, 5)),), 0)
    table = task.table()
    assert table[4].file == table[reading].file
    assert table[5].file == table[writing].file


def test_received_descriptors_are_inheritable_unless_asked_otherwise(task: Task) -> None:
    a, b = task.socketpair()
    sent = task.memfd_create("m", 1)
    task.sendmsg(a, b"x", [Rights((sent,))])
    (received,) = rights(task.recvmsg(b, 1, space(1)))
    assert not task.table()[received].cloexec
    task.sendmsg(a, b"x", [Rights((sent,))])
    message = task.recvmsg(b, 1, space(1), CMSG_CLOEXEC)
    assert message.flags == CMSG_CLOEXEC
    assert task.table()[rights(message)[0]].cloexec


def test_a_file_in_flight_outlives_the_senders_descriptor(task: Task) -> None:
    a, b = task.socketpair()
    reading, writing = task.pipe2()
    task.sendmsg(a, b"x", [Rights((writing,))])
    task.close(writing)
    assert not task.poll(reading) & 0x10
    (received,) = rights(task.recvmsg(b, 1, space(1)))
    task.write(received, b"alive")
    assert task.read(reading, 10) == b"alive"
    task.close(received)
    assert task.read(reading, 10) == b""


@every_kind
def test_a_file_in_flight_is_dropped_with_its_receiver(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    reading, writing = task.pipe2()
    task.sendmsg(a, b"x", [Rights((writing,))])
    task.close(writing)
    task.close(b)
    assert task.read(reading, 1) == b""


def test_several_messages_of_rights_become_one(task: Task) -> None:
    a, b = task.socketpair()
    reading, writing = task.pipe2()
    task.sendmsg(a, b"x", [Rights((reading,)), Rights(()), Rights((writing,))])
    assert task.recvmsg(b, 1, 100).control == (Rights((4, 5)),)


def test_an_o_path_descriptor_may_be_sent(task: Task) -> None:
    a, b = task.socketpair()
    path = task.open("/", os.O_PATH)
    task.sendmsg(a, b"x", [Rights((path,))])
    assert rights(task.recvmsg(b, 1, 24)) == (3,)


@every_kind
@pytest.mark.parametrize(
    ("numbers", "number"),
    [
        ((-1,), errno.EBADF),
        ((0, 99), errno.EBADF),
        ((0,) * 254, errno.EINVAL),
        ((99,) * 254, errno.EINVAL),
    ],
)
def test_a_bad_number_fails_the_whole_message(
    task: Task, kind: int, numbers: tuple[int, ...], number: int
) -> None:
    a, b = task.socketpair(kind)
    with failing(number):
        task.sendmsg(a, b"x", [Rights(numbers)])
    with failing(errno.EAGAIN):
        task.recvmsg(b, 1, 100, DONTWAIT)


@pytest.mark.parametrize(("kind", "number"), [(SEQPACKET, errno.ECONNRESET), (STREAM, errno.EBADF)])
def test_a_seqpacket_looks_at_the_connection_before_the_numbers(
    task: Task, kind: int, number: int
) -> None:
    a, b = task.socketpair(kind)
    task.write(a, b"unread")
    task.close(b)
    with failing(number):
        task.sendmsg(a, b"x", [Rights((99,))], socket.MSG_NOSIGNAL)
    with failing(errno.EBADF):
        task.sendmsg(a, b"x", [Rights((99,))], socket.MSG_NOSIGNAL)


def test_253_descriptors_travel_and_not_one_more(task: Task) -> None:
    a, b = task.socketpair()
    with failing(errno.EINVAL):
        task.sendmsg(a, b"x", [Rights((a,) * 200), Rights((b,) * 54)])
    task.sendmsg(a, b"x", [Rights((a,) * 200), Rights((b,) * 53)])
    assert rights(task.recvmsg(b, 1, 2000)) == tuple(range(2, 255))


def test_a_ring_may_not_be_sent(task: Task) -> None:
    a, _ = task.socketpair()
    ring = task.io_uring_setup(4)
    with failing(errno.EINVAL):
        task.sendmsg(a, b"x", [Rights((ring,))])


def test_descriptors_without_data_vanish_on_a_stream(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    reading, writing = task.pipe2()
    assert task.sendmsg(a, b"", [Rights((writing,))]) == 0
    task.close(writing)
    assert task.read(reading, 1) == b""
    with failing(errno.EAGAIN):
        task.recvmsg(b, 1, 100, DONTWAIT)


@pytest.mark.parametrize("kind", [DATAGRAM, SEQPACKET])
def test_descriptors_without_data_arrive_in_a_record(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    assert task.sendmsg(a, b"", [Rights((a,))]) == 0
    assert task.recvmsg(b, 1, 24) == Received(b"", (Rights((2,)),), 0)


# -- what the buffer has room for


@pytest.mark.parametrize(
    ("size", "arrived"),
    [(0, 0), (15, 0), (16, 0), (19, 0), (20, 1), (23, 1), (24, 2), (27, 2), (28, 3), (32, 3)],
)
def test_room_is_counted_in_whole_ints_and_padding_is_room(
    task: Task, size: int, arrived: int
) -> None:
    a, b = task.socketpair()
    task.sendmsg(a, b"x", [Rights((a, a, a))])
    received = task.recvmsg(b, 1, size)
    assert rights(received) == tuple(range(2, 2 + arrived))
    assert received.flags == (0 if arrived == 3 else CTRUNC)
    assert len(task.table()) == 2 + arrived


def test_space_for_one_descriptor_lets_two_in(task: Task) -> None:
    a, b = task.socketpair()
    task.sendmsg(a, b"x", [Rights((a, a))])
    assert task.recvmsg(b, 1, space(1)) == Received(b"x", (Rights((2, 3)),), 0)


def test_what_did_not_fit_is_dropped(task: Task) -> None:
    a, b = task.socketpair()
    reading, writing = task.pipe2()
    task.sendmsg(a, b"x", [Rights((a, a, writing))])
    task.close(writing)
    assert task.recvmsg(b, 1, space(1)).flags == CTRUNC
    assert task.read(reading, 1) == b""


def test_a_full_table_keeps_what_it_took_and_loses_the_rest(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=4)
    a, b = task.socketpair()
    task.sendmsg(a, b"all of it", [Rights((a, b, a))])
    assert task.recvmsg(b, 10, 100) == Received(b"all of it", (Rights((2, 3)),), CTRUNC)
    task.sendmsg(a, b"more", [Rights((a,))])
    assert task.recvmsg(b, 10, 100) == Received(b"more", (), CTRUNC)


@pytest.mark.parametrize(
    ("size", "control", "truncated"),
    [
        (0, (), True),
        (16, (), True),
        (27, (), True),
        (28, (Credentials,), True),
        (32, (Credentials,), True),
        (48, (Credentials,), True),
        (52, (Credentials, 1), True),
        (56, (Credentials, 2), True),
        (72, (Credentials, 2), True),
        (75, (Credentials, 2), True),
        (76, (Credentials, 2, Pidfd), False),
        (80, (Credentials, 2, Pidfd), False),
    ],
)
def test_credentials_come_first_then_descriptors_then_the_pidfd(
    task: Task, size: int, control: tuple[object, ...], truncated: bool
) -> None:
    a, b = task.socketpair()
    task.setsockopt(b, SO_PASSCRED, 1)
    task.setsockopt(b, SO_PASSPIDFD, 1)
    task.sendmsg(a, b"x", [Rights((a, a))])
    received = task.recvmsg(b, 1, size)
    assert received.flags == (CTRUNC if truncated else 0)
    shape = tuple(
        len(item.numbers) if isinstance(item, Rights) else type(item) for item in received.control
    )
    assert shape == control


# -- several messages in one read


def test_a_stream_read_ends_with_the_message_that_had_descriptors(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    for data, control in (
        (b"aa", []),
        (b"bb", [Rights((a,))]),
        (b"cc", []),
        (b"dd", [Rights((b,))]),
    ):
        task.sendmsg(a, data, control)
    assert task.recvmsg(b, 10, 100) == Received(b"aabb", (Rights((2,)),), 0)
    assert task.recvmsg(b, 10, 100) == Received(b"ccdd", (Rights((3,)),), 0)


def test_the_first_byte_brings_all_descriptors_of_its_message(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    task.sendmsg(a, b"abc", [Rights((a,))])
    assert task.recvmsg(b, 1, 100) == Received(b"a", (Rights((2,)),), 0)
    assert task.recvmsg(b, 9, 100) == Received(b"bc", (), 0)


def test_asking_for_no_data_takes_the_descriptors_of_a_stream_message(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    task.sendmsg(a, b"ab", [Rights((a,))])
    assert task.recvmsg(b, 0, 100) == Received(b"", (Rights((2,)),), 0)
    assert task.recvmsg(b, 9, 100) == Received(b"ab", (), 0)


def test_read_drops_the_descriptors(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    reading, writing = task.pipe2()
    task.sendmsg(a, b"ab", [Rights((writing,))])
    task.close(writing)
    assert task.read(b, 1) == b"a"
    assert task.read(reading, 1) == b""
    assert task.recvmsg(b, 9, 100) == Received(b"b", (), 0)


@every_kind
def test_every_peek_brings_descriptors_of_its_own(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    task.sendmsg(a, b"x", [Rights((a,))])
    got = [rights(task.recvmsg(b, 1, 24, flags)) for flags in (PEEK, PEEK, 0)]
    assert got == [(2,), (3,), (4,)]
    table = task.table()
    assert table[2].file == table[3].file == table[4].file == table[a].file


def test_a_peek_brings_descriptors_of_a_message_of_which_it_brings_no_data(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    task.sendmsg(a, b"ab")
    task.sendmsg(a, b"c", [Rights((a,))])
    assert task.recvmsg(b, 1, 100, PEEK) == Received(b"a", (Rights((2,)),), 0)
    assert task.recvmsg(b, 2, 100) == Received(b"ab", (), 0)
    assert task.recvmsg(b, 2, 100) == Received(b"c", (Rights((3,)),), 0)


def test_a_stream_keeps_senders_apart_only_for_who_wants_to_know_them(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    child = task.fork()
    task.setsockopt(b, SO_PASSCRED, 1)
    task.write(a, b"p")
    child.write(a, b"c")
    task.write(a, b"P")
    assert task.recvmsg(b, 9, 0, PEEK).data == b"p"
    task.setsockopt(b, SO_PASSCRED, 0)
    assert task.recvmsg(b, 9).data == b"pcP"


# -- who sent it


@pytest.mark.root
def test_credentials_are_the_senders(task: Task) -> None:
    a, b = task.socketpair()
    child = task.fork()
    task.setsockopt(b, SO_PASSCRED, 1)
    child.write(a, b"x")
    assert task.recvmsg(b, 1, 100).control == (Credentials(child.getpid(), 0, 0),)


def test_a_message_sent_before_anybody_asked_is_from_nobody(task: Task) -> None:
    a, b = task.socketpair()
    task.write(a, b"x")
    task.setsockopt(b, SO_PASSCRED, 1)
    task.setsockopt(b, SO_PASSPIDFD, 1)
    assert task.recvmsg(b, 1, 100).control == (Credentials(0, 65534, 65534),)


@pytest.mark.root
def test_the_senders_own_option_makes_its_messages_carry_who_it_is(task: Task) -> None:
    a, b = task.socketpair()
    task.setsockopt(a, SO_PASSPIDFD, 1)
    task.write(a, b"x")
    task.setsockopt(b, SO_PASSCRED, 1)
    assert task.recvmsg(b, 1, 100).control == (Credentials(task.getpid(), 0, 0),)


@pytest.mark.root
def test_root_may_send_anybodys_credentials_if_the_process_exists(task: Task) -> None:
    a, b = task.socketpair()
    task.setsockopt(b, SO_PASSCRED, 1)
    task.sendmsg(a, b"x", [Credentials(task.getpid(), 5, 6)])
    assert task.recvmsg(b, 1, 100).control == (Credentials(task.getpid(), 5, 6),)
    child = task.fork()
    task.sendmsg(a, b"x", [Credentials(child.getpid(), 7, 8), Rights((a,))])
    received = task.recvmsg(b, 1, 100)
    assert received.control == (Credentials(child.getpid(), 7, 8), Rights((2,)))
    with failing(errno.ESRCH):
        task.sendmsg(a, b"x", [Credentials(4194303, 0, 0)])


@pytest.mark.root
def test_credentials_may_name_a_thread(task: Task) -> None:
    a, b = task.socketpair()
    thread = task.clone(0x100 | 0x200 | 0x400 | 0x800 | 0x10000)
    task.setsockopt(b, SO_PASSCRED, 1)
    number = int(getattr(thread, "id", thread.pid))
    task.sendmsg(a, b"x", [Credentials(number, 0, 0)])
    assert task.recvmsg(b, 1, 100).control == (Credentials(number, 0, 0),)


@pytest.mark.parametrize(("kind", "told"), [(STREAM, True), (SEQPACKET, False)])
def test_only_a_stream_tells_at_its_end_that_nobody_sent_it(
    task: Task, kind: int, told: bool
) -> None:
    a, b = task.socketpair(kind)
    task.setsockopt(b, SO_PASSCRED, 1)
    task.close(a)
    control = (Credentials(0, 0, 0),) if told else ()
    assert task.recvmsg(b, 1, 100) == Received(b"", control, 0)
    assert task.recvmsg(b, 1, 0).flags == (CTRUNC if told else 0)


def test_a_user_may_send_only_its_own_credentials(kernel: Kernel) -> None:
    task = kernel.spawn(uid=1000)
    a, _ = task.socketpair()
    assert task.sendmsg(a, b"x", [Credentials(task.getpid(), 1000, 1000)]) == 1
    for wrong in (
        Credentials(task.getpid(), 0, 1000),
        Credentials(task.getpid(), 1000, 0),
        Credentials(task.getpid() + 1, 1000, 1000),
    ):
        with failing(errno.EPERM):
            task.sendmsg(a, b"x", [wrong])


def test_a_pidfd_message_may_not_be_sent(task: Task) -> None:
    a, _ = task.socketpair()
    with failing(errno.EINVAL):
        task.sendmsg(a, b"x", [Pidfd(a)])


def test_a_received_pidfd_is_close_on_exec_and_names_the_sender(task: Task) -> None:
    a, b = task.socketpair()
    task.setsockopt(b, SO_PASSPIDFD, 1)
    child = task.fork()
    child.write(a, b"x")
    (item,) = task.recvmsg(b, 1, 100).control
    assert item == Pidfd(2)
    assert task.table()[2].cloexec
    assert task.pidfd_info(2).pid == child.getpid()


def test_a_pidfd_of_a_sender_that_was_reaped_still_arrives(task: Task) -> None:
    a, b = task.socketpair()
    task.setsockopt(b, SO_PASSPIDFD, 1)
    child = task.fork()
    child.write(a, b"x")
    child.exit(3)
    task.waitid(os.P_PID, child.pid, os.WEXITED)
    assert task.recvmsg(b, 1, 100).control == (Pidfd(2),)
    assert task.pidfd_info(2, 8).exit_code == 3 << 8


def test_a_pidfd_that_has_no_number_is_a_negative_errno(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=3)
    a, b = task.socketpair()
    task.setsockopt(b, SO_PASSPIDFD, 1)
    task.sendmsg(a, b"x", [Rights((a,))])
    received = task.recvmsg(b, 1, 100)
    assert received == Received(b"x", (Rights((2,)), Pidfd(-errno.EMFILE)), 0)


# -- who may not


@every_kind
def test_a_receiver_may_refuse_descriptors(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    task.sendmsg(a, b"before", [Rights((a,))])
    task.setsockopt(b, SO_PASSRIGHTS, 0)
    with failing(errno.EPERM):
        task.sendmsg(a, b"x", [Rights((a,))])
    assert task.sendmsg(a, b"plain") == 5
    assert task.sendmsg(b, b"other way", [Rights((a,))]) == 9
    assert rights(task.recvmsg(b, 6, 100)) == (2,)


@every_kind
def test_a_user_with_more_in_flight_than_its_limit_may_send_no_more(
    kernel: Kernel, kind: int
) -> None:
    task = kernel.spawn(rlimit_nofile=20, uid=1000)
    a, b = task.socketpair(kind)
    for _ in range(5):
        assert task.sendmsg(a, b"x", [Rights((a,) * 5)]) == 1
    with failing(errno.ETOOMANYREFS):
        task.sendmsg(a, b"x", [Rights((a,))])
    assert task.sendmsg(a, b"plain") == 5
    task.recvmsg(b, 1, 0)
    assert task.sendmsg(a, b"x", [Rights((a,))]) == 1
    with failing(errno.ETOOMANYREFS):
        task.sendmsg(a, b"x", [Rights((a,))])


def test_the_limit_in_flight_is_the_users_not_the_processs(kernel: Kernel) -> None:
    leaker = kernel.spawn(rlimit_nofile=100, uid=1000)
    victim = kernel.spawn(rlimit_nofile=10, uid=1000)
    other = kernel.spawn(rlimit_nofile=10, uid=1001)
    a, _ = leaker.socketpair()
    leaker.sendmsg(a, b"x", [Rights((a,) * 11)])
    c, _ = victim.socketpair()
    with failing(errno.ETOOMANYREFS):
        victim.sendmsg(c, b"x", [Rights((c,))])
    e, _ = other.socketpair()
    assert other.sendmsg(e, b"x", [Rights((e,))]) == 1


@pytest.mark.root
def test_root_has_no_limit_in_flight(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=4)
    a, _ = task.socketpair()
    for _ in range(5):
        assert task.sendmsg(a, b"x", [Rights((a,) * 5)]) == 1
