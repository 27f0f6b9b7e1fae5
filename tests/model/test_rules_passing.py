"""The rules of docs/reference/model-rules.md on descriptors that travel through sockets."""

import errno
import os
import socket

import pytest

from fdproof.model import Credentials, Kernel, Pidfd, Received, Rights, Task
from tests.model.failing import eventually, failing

STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
DONTWAIT, PEEK, CTRUNC = socket.MSG_DONTWAIT, socket.MSG_PEEK, socket.MSG_CTRUNC
MSG_CMSG_CLOEXEC = 0x40000000
SO_PASSCRED, SO_PASSPIDFD, SO_PASSRIGHTS = 16, 76, 83
ROOM = 256
HEADER, INT = 16, 4


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A task with a pair of sockets as 0 and 1, and a file with 'abc' in it as 2."""
    task = kernel.spawn(rlimit_nofile=16)
    task.socketpair(STREAM)
    task.open("/a", os.O_RDWR | os.O_CREAT)
    task.write(2, b"abc")
    return task


def numbers(received: Received) -> tuple[int, ...]:
    return tuple(
        number for item in received.control if isinstance(item, Rights) for number in item.numbers
    )


def test_rule_48_what_was_sent_may_be_closed_at_once(task: Task) -> None:
    task.sendmsg(0, b"x", [Rights((2,))])
    task.close(2)
    assert numbers(task.recvmsg(1, 9, ROOM)) == (2,)
    assert task.lseek(2, 0, os.SEEK_CUR) == 3


def test_rule_49_what_arrives_is_the_same_file_under_the_lowest_free_numbers(task: Task) -> None:
    task.dup2(2, 4)
    task.sendmsg(0, b"x", [Rights((2, 4))])
    assert numbers(task.recvmsg(1, 9, ROOM)) == (3, 5)
    assert task.fcntl(3, 1027, 2) == task.fcntl(5, 1027, 2) == 1


def test_rule_50_what_arrives_is_close_on_exec_only_if_the_receiver_says_so(task: Task) -> None:
    task.fcntl(2, 2, 1)
    for flags in (0, MSG_CMSG_CLOEXEC):
        task.sendmsg(0, b"x", [Rights((2,))])
        received = task.recvmsg(1, 9, ROOM, flags)
        assert received.flags == flags
        assert task.table()[numbers(received)[0]].cloexec == bool(flags)


def test_rule_51_one_bad_number_and_nothing_is_sent(task: Task) -> None:
    with failing(errno.EBADF):
        task.sendmsg(0, b"x", [Rights((2, 99))])
    with failing(errno.EAGAIN):
        task.recvmsg(1, 9, ROOM, DONTWAIT)


def test_rule_52_a_message_carries_253_descriptors_and_not_one_more(task: Task) -> None:
    with failing(errno.EINVAL):
        task.sendmsg(0, b"x", [Rights((2,) * 200), Rights((2,) * 54)])
    assert task.sendmsg(0, b"x", [Rights((2,) * 200), Rights((2,) * 53)]) == 1


def test_rule_53_where_the_table_has_no_room_the_first_arrive_and_the_rest_is_lost(
    task: Task,
) -> None:
    task.setrlimit(4)
    task.sendmsg(0, b"whole", [Rights((2, 2, 2))])
    received = task.recvmsg(1, 9, ROOM)
    assert received == Received(b"whole", (Rights((3,)),), CTRUNC)


def test_rule_54_without_room_for_control_messages_no_descriptor_arrives(task: Task) -> None:
    task.sendmsg(0, b"x", [Rights((2,))])
    assert task.recvmsg(1, 9, 0) == Received(b"x", (), CTRUNC)
    assert sorted(task.table()) == [0, 1, 2]


def test_rule_55_room_is_counted_in_numbers_so_padding_lets_one_more_in(task: Task) -> None:
    for size, arrived in ((HEADER + INT - 1, 0), (HEADER + INT, 1), (HEADER + 2 * INT, 2)):
        task.sendmsg(0, b"x", [Rights((2, 2, 2))])
        received = task.recvmsg(1, 9, size)
        assert len(numbers(received)) == arrived
        assert received.flags == CTRUNC


def test_rule_56_each_look_at_a_message_brings_descriptors_of_its_own(task: Task) -> None:
    task.sendmsg(0, b"x", [Rights((2,))])
    assert numbers(task.recvmsg(1, 9, ROOM, PEEK)) == (3,)
    assert numbers(task.recvmsg(1, 9, ROOM)) == (4,)


def test_rule_57_a_stream_is_not_read_on_beyond_descriptors(task: Task) -> None:
    task.sendmsg(0, b"ab", [Rights((2,))])
    task.sendmsg(0, b"cd")
    received = task.recvmsg(1, 9, ROOM)
    assert (received.data, numbers(received)) == (b"ab", (3,))
    assert task.recvmsg(1, 9, ROOM).data == b"cd"


def test_rule_58_on_a_stream_descriptors_without_data_are_lost_without_a_word(task: Task) -> None:
    assert task.sendmsg(0, b"", [Rights((2,))]) == 0
    with failing(errno.EAGAIN):
        task.recvmsg(1, 9, ROOM, DONTWAIT)


def test_rule_59_a_receiver_can_refuse_descriptors_which_fails_the_sender(task: Task) -> None:
    assert task.getsockopt(1, SO_PASSRIGHTS) == 1
    task.setsockopt(1, SO_PASSRIGHTS, 0)
    with failing(errno.EPERM):
        task.sendmsg(0, b"x", [Rights((2,))])
    assert task.sendmsg(0, b"x") == 1


def test_rule_60_a_descriptor_of_o_path_travels_and_one_of_a_ring_does_not(task: Task) -> None:
    path = task.open("/a", os.O_PATH)
    task.sendmsg(0, b"x", [Rights((path,))])
    assert task.fcntl(numbers(task.recvmsg(1, 9, ROOM))[0], 1027, path) == 1
    ring = task.io_uring_setup(1)
    with failing(errno.EINVAL):
        task.sendmsg(0, b"x", [Rights((ring,))])


def test_rule_61_a_user_with_more_in_flight_than_his_limit_sends_no_more(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=4, uid=1234)
    task.socketpair(DATAGRAM)
    for _ in range(5):
        task.sendmsg(0, b"x", [Rights((0,))])
    with failing(errno.ETOOMANYREFS):
        task.sendmsg(0, b"x", [Rights((0,))])
    task.recvmsg(1, 9)
    assert task.sendmsg(0, b"x", [Rights((0,))]) == 1


@pytest.mark.root
def test_rule_62_who_sent_is_told_to_a_receiver_that_asks(task: Task) -> None:
    task.setsockopt(1, SO_PASSCRED, 1)
    task.sendmsg(0, b"x")
    assert task.recvmsg(1, 9, ROOM).control == (Credentials(task.getpid(), 0, 0),)
    task.setsockopt(1, SO_PASSCRED, 0)
    task.setsockopt(1, SO_PASSPIDFD, 1)
    task.sendmsg(0, b"x")
    assert task.recvmsg(1, 9, ROOM).control == (Pidfd(3),)
    assert task.pidfd_info(3).pid == task.getpid()


def test_rule_63_where_there_is_no_number_for_the_pidfd_an_errno_takes_its_place(
    task: Task,
) -> None:
    task.setsockopt(1, SO_PASSPIDFD, 1)
    task.setrlimit(3)
    task.sendmsg(0, b"x")
    assert task.recvmsg(1, 9, ROOM).control == (Pidfd(-errno.EMFILE),)


def test_rule_64_nobody_names_another_as_the_sender_without_privilege(kernel: Kernel) -> None:
    other = kernel.spawn()
    task = kernel.spawn(uid=1234)
    task.socketpair()
    with failing(errno.EPERM):
        task.sendmsg(0, b"x", [Credentials(other.pid, 1234, 1234)])
    with failing(errno.EPERM):
        task.sendmsg(0, b"x", [Credentials(task.pid, 0, 0)])
    assert task.sendmsg(0, b"x", [Credentials(task.pid, 1234, 1234)]) == 1


def test_rule_65_sockets_that_only_each_others_messages_hold_are_closed(task: Task) -> None:
    reader, writer = task.pipe2(os.O_NONBLOCK)
    task.sendmsg(0, b"x", [Rights((0, 1, writer))])
    task.sendmsg(1, b"x", [Rights((0, 1))])
    for number in (0, 1, writer):
        task.close(number)

    def ended() -> bool:
        try:
            return task.read(reader, 1) == b""
        except BlockingIOError:
            # Linux looks for such sockets when another one is closed, and in its own time.
            for number in task.socketpair():
                task.close(number)
            return False

    eventually(ended)
