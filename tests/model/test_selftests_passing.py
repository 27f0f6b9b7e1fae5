"""What the kernel's own tests and the Linux Test Project ask of descriptors in messages, asked anew."""

import errno
import os
import socket
from collections.abc import Sequence

import pytest

from fdproof.model import Kernel, Pidfd, Received, Rights, Task
from tests.model.failing import eventually, failing

DONTWAIT, CTRUNC = socket.MSG_DONTWAIT, socket.MSG_CTRUNC
MSG_CMSG_CLOEXEC = 0x40000000
SO_PASSPIDFD, SO_PEERPIDFD, SO_PASSRIGHTS = 76, 77, 83
ROOM = 256

Pair = tuple[int, int]

kinds = pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A task with a pipe as 0 and 1, whose end nobody waits for."""
    task = kernel.spawn(rlimit_nofile=64)
    task.pipe2(os.O_NONBLOCK)
    return task


def send(task: Task, through: Pair, what: Sequence[int]) -> None:
    task.sendmsg(through[0], b"x", [Rights(tuple(what))])


def all_is_closed(task: Task, pairs: Sequence[Pair]) -> None:
    """Close the sockets and the writing end of the pipe; demand that nothing keeps that open."""
    for number in (1, *(number for pair in pairs for number in pair)):
        task.close(number)

    def ended() -> bool:
        try:
            return task.read(0, 1) == b""
        except BlockingIOError:
            # Linux looks for what is dead when another socket is closed, and in its own time.
            for number in task.socketpair():
                task.close(number)
            return False

    eventually(ended)


@kinds
def test_a_socket_in_its_own_queue_dies(task: Task, kind: int) -> None:
    """scm_rights.c: self_ref."""
    a, b = task.socketpair(kind), task.socketpair(kind)
    send(task, a, [a[1], 1])
    send(task, b, [b[1]])
    all_is_closed(task, [a, b])


@kinds
def test_three_that_carry_each_other_in_a_ring_die(task: Task, kind: int) -> None:
    """scm_rights.c: triangle."""
    pairs = [task.socketpair(kind) for _ in range(3)]
    send(task, pairs[0], [pairs[1][1], 1])
    send(task, pairs[1], [pairs[2][1]])
    send(task, pairs[2], [pairs[0][1]])
    all_is_closed(task, pairs)


@kinds
def test_two_rings_that_lead_into_each_other_die(task: Task, kind: int) -> None:
    """scm_rights.c: cross_edge."""
    pairs = [task.socketpair(kind) for _ in range(4)]
    for receiver, sent in ((0, 1), (1, 2), (2, 0), (1, 3), (3, 2)):
        send(task, pairs[receiver], [pairs[sent][1], 1])
    all_is_closed(task, pairs)


@kinds
def test_a_ring_behind_a_ring_dies(task: Task, kind: int) -> None:
    """scm_rights.c: backtrack_from_scc."""
    pairs = [task.socketpair(kind) for _ in range(10)]
    edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4), (4, 5), (5, 3), (5, 6), (6, 7), (7, 6), (8, 9)]
    for receiver, sent in edges:
        send(task, pairs[receiver], [pairs[sent][1], 1])
    all_is_closed(task, pairs)


@kinds
def test_a_ring_that_somebody_still_holds_lives(task: Task, kind: int) -> None:
    """scm_rights.c, the other way round."""
    a, b = task.socketpair(kind), task.socketpair(kind)
    send(task, a, [b[1], 1])
    send(task, b, [a[1]])
    for number in (1, a[0], b[0], b[1]):
        task.close(number)
    for number in task.socketpair():
        task.close(number)
    with failing(errno.EAGAIN):
        task.read(0, 1)
    received = task.recvmsg(a[1], 9, ROOM)
    assert isinstance(received.control[0], Rights)
    assert len(received.control[0].numbers) == 2


@kinds
def test_a_receiver_that_wants_no_descriptors_gets_none(task: Task, kind: int) -> None:
    """scm_rights.c: the disabled variants."""
    pair = task.socketpair(kind)
    task.setsockopt(pair[1], SO_PASSRIGHTS, 0)
    with failing(errno.EPERM):
        send(task, pair, [0])
    assert task.sendmsg(pair[0], b"x") == 1


@kinds
def test_the_pidfd_of_the_sender_is_his(task: Task, kind: int) -> None:
    """scm_pidfd.c: test."""
    a, b = task.socketpair(kind)
    task.setsockopt(b, SO_PASSPIDFD, 1)
    child = task.fork()
    child.sendmsg(a, b"x")
    received = task.recvmsg(b, 9, ROOM)
    assert received.control == (Pidfd(4),)
    assert task.pidfd_info(4).pid == child.pid


def test_the_pidfd_of_the_peer_is_of_who_made_the_pair(task: Task) -> None:
    """scm_pidfd.c: SO_PEERPIDFD."""
    a, _ = task.socketpair()
    pidfd = task.getsockopt(a, SO_PEERPIDFD)
    assert isinstance(pidfd, int)
    assert task.pidfd_info(pidfd).pid == task.pid


def test_the_pidfd_of_a_sender_who_was_reaped_tells_how_he_ended(task: Task) -> None:
    """scm_pidfd.c: the reaped sender."""
    a, b = task.socketpair()
    task.setsockopt(b, SO_PASSPIDFD, 1)
    child = task.fork()
    child.sendmsg(a, b"x")
    child.exit(5)
    task.waitid(os.P_PID, child.pid, os.WEXITED)
    assert task.recvmsg(b, 9, ROOM).control == (Pidfd(4),)
    assert task.pidfd_info(4, 8).exit_code == 5 << 8


@pytest.mark.parametrize("number", [9, -1])
def test_receiving_needs_an_open_descriptor(task: Task, number: int) -> None:
    """recvmsg01, sendmsg01."""
    with failing(errno.EBADF):
        task.recvmsg(number, 1)
    with failing(errno.EBADF):
        task.sendmsg(number, b"x")


def test_receiving_needs_a_socket(task: Task) -> None:
    """recvmsg01, sendmsg01."""
    with failing(errno.ENOTSOCK):
        task.recvmsg(0, 1)
    with failing(errno.ENOTSOCK):
        task.sendmsg(1, b"x")


def test_descriptors_arrive_with_the_data_they_were_sent_with(task: Task) -> None:
    """recvmsg01: a descriptor in a control message."""
    a, b = task.socketpair()
    task.sendmsg(a, b"hello", [Rights((1,))])
    assert task.recvmsg(b, 9, ROOM, MSG_CMSG_CLOEXEC) == Received(
        b"hello", (Rights((4,)),), MSG_CMSG_CLOEXEC
    )
    assert task.write(4, b"through the pipe") == 16
    assert task.read(0, 99) == b"through the pipe"


def test_a_control_buffer_that_is_too_small_truncates(task: Task) -> None:
    """recvmsg03 and its kin: MSG_CTRUNC."""
    a, b = task.socketpair()
    task.sendmsg(a, b"x", [Rights((0, 1, 1))])
    received = task.recvmsg(b, 9, 16 + 4)
    assert received == Received(b"x", (Rights((4,)),), CTRUNC)
    assert sorted(task.table()) == [0, 1, 2, 3, 4]


def test_nothing_is_sent_of_a_message_with_a_bad_descriptor(task: Task) -> None:
    """sendmsg01: a bad descriptor in a control message."""
    a, b = task.socketpair()
    with failing(errno.EBADF):
        task.sendmsg(a, b"x", [Rights((0, 63))])
    with failing(errno.EAGAIN):
        task.recvmsg(b, 9, ROOM, DONTWAIT)
