"""Sockets in flight that only each other's messages keep alive are found and dropped.

The oracle is a pipe whose writing end travels with them: when they go, its reader sees the end.
Linux collects in the background, so the kernel's side waits for it; the close of any AF_UNIX
socket sets it off.
"""

import itertools
import select
import socket

import pytest

from fdproof.model import Kernel, Rights, Task
from tests.model.failing import eventually

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
every_kind = pytest.mark.parametrize("kind", KINDS)
HUP = select.POLLHUP


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


def set_off(task: Task) -> None:
    """Close a socket that has nothing to do with any other."""
    for number in task.socketpair():
        task.close(number)


class Sentinel:
    """A pipe whose writing end is only in flight once it was sent along."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.reading, self.writing = task.pipe2()

    def only_in_flight(self) -> None:
        """Close what the task itself has of the writing end."""
        self.task.close(self.writing)

    def gone(self) -> bool:
        """Set the collection off, and look for the end."""
        set_off(self.task)
        return bool(self.task.poll(self.reading) & HUP)


@every_kind
def test_a_socket_in_its_own_queue_is_collected(task: Task, kind: int) -> None:
    sentinel = Sentinel(task)
    a, b = task.socketpair(kind)
    task.sendmsg(b, b"x", [Rights((a, sentinel.writing))])
    task.close(a)
    task.close(b)
    sentinel.only_in_flight()
    eventually(sentinel.gone)


@every_kind
def test_two_sockets_in_each_others_queue_are_collected(task: Task, kind: int) -> None:
    sentinel = Sentinel(task)
    a, b = task.socketpair(kind)
    task.sendmsg(a, b"x", [Rights((a, sentinel.writing))])
    task.sendmsg(b, b"x", [Rights((b,))])
    task.close(a)
    task.close(b)
    sentinel.only_in_flight()
    eventually(sentinel.gone)


@every_kind
def test_both_ends_in_one_queue_are_collected(task: Task, kind: int) -> None:
    sentinel = Sentinel(task)
    a, b = task.socketpair(kind)
    task.sendmsg(a, b"x", [Rights((a, b, sentinel.writing))])
    task.close(a)
    task.close(b)
    sentinel.only_in_flight()
    eventually(sentinel.gone)


def test_what_is_in_the_queue_of_a_reachable_socket_stays(task: Task) -> None:
    sentinel = Sentinel(task)
    a, b = task.socketpair()
    task.sendmsg(a, b"x", [Rights((a, b, sentinel.writing))])
    task.close(a)
    sentinel.only_in_flight()
    assert not sentinel.gone()
    received = task.recvmsg(b, 1, 100).control[0]
    assert isinstance(received, Rights)
    for number in (b, *received.numbers):
        task.close(number)
    assert task.poll(sentinel.reading) & HUP


def test_a_copy_in_another_table_keeps_a_cycle_alive(task: Task) -> None:
    sentinel = Sentinel(task)
    a, b = task.socketpair()
    child = task.fork()
    child.close(sentinel.writing)
    child.close(b)
    task.sendmsg(b, b"x", [Rights((a, sentinel.writing))])
    task.close(a)
    task.close(b)
    sentinel.only_in_flight()
    assert not sentinel.gone()
    child.close(a)
    eventually(sentinel.gone)


@every_kind
def test_a_triangle_is_collected(task: Task, kind: int) -> None:
    sentinel = Sentinel(task)
    pairs = [task.socketpair(kind) for _ in range(3)]
    for here, there in zip(pairs, pairs[1:] + pairs[:1], strict=True):
        task.sendmsg(here[1], b"x", [Rights((there[0], sentinel.writing))])
    for number in itertools.chain(*pairs):
        task.close(number)
    sentinel.only_in_flight()
    eventually(sentinel.gone)


@every_kind
def test_two_cycles_with_an_edge_across_are_collected(task: Task, kind: int) -> None:
    sentinel = Sentinel(task)
    pairs = [task.socketpair(kind) for _ in range(4)]
    for here, there in ((0, 1), (1, 0), (2, 3), (3, 2), (0, 2)):
        task.sendmsg(pairs[here][1], b"x", [Rights((pairs[there][0], sentinel.writing))])
    for number in itertools.chain(*pairs):
        task.close(number)
    sentinel.only_in_flight()
    eventually(sentinel.gone)


def test_a_cycle_that_reaches_into_a_living_one_is_collected_and_the_living_one_stays(
    task: Task,
) -> None:
    dead, living = Sentinel(task), Sentinel(task)
    pairs = [task.socketpair() for _ in range(4)]
    for here, there, sentinel in ((0, 1, dead), (1, 0, dead), (2, 3, living), (3, 2, living)):
        task.sendmsg(pairs[here][1], b"x", [Rights((pairs[there][0], sentinel.writing))])
    task.sendmsg(pairs[0][1], b"x", [Rights((pairs[2][0],))])
    for number in itertools.chain(*pairs[:2], pairs[2][1:], pairs[3]):
        task.close(number)
    dead.only_in_flight()
    living.only_in_flight()
    eventually(dead.gone)
    assert not living.gone()
    task.close(pairs[2][0])
    eventually(living.gone)


def test_a_search_that_comes_back_from_a_finished_component_goes_on(task: Task) -> None:
    sentinel = Sentinel(task)
    pairs = [task.socketpair() for _ in range(3)]
    for here, there in ((1, 0), (0, 1), (0, 2), (2, 2)):
        task.sendmsg(pairs[here][1], b"x", [Rights((pairs[there][0], sentinel.writing))])
    for number in itertools.chain(*pairs):
        task.close(number)
    sentinel.only_in_flight()
    eventually(sentinel.gone)


def test_a_cycle_that_was_reachable_is_collected_once_it_is_not(task: Task) -> None:
    sentinel = Sentinel(task)
    (_, queue), (inner, to_inner), (own, to_own) = pairs = [task.socketpair() for _ in range(3)]
    task.sendmsg(pairs[0][0], b"x", [Rights((inner,))])
    task.sendmsg(to_own, b"x", [Rights((own, sentinel.writing))])
    task.sendmsg(to_inner, b"x", [Rights((own,))])
    for number in (inner, to_inner, own, to_own):
        task.close(number)
    sentinel.only_in_flight()
    assert not sentinel.gone()
    task.close(queue)
    eventually(lambda: bool(task.poll(sentinel.reading) & HUP))


def test_a_long_chain_of_sockets_is_no_cycle_and_ends_with_its_last_holder(task: Task) -> None:
    task.setrlimit(4096)
    sentinel = Sentinel(task)
    first, number = task.socketpair(socket.SOCK_DGRAM)
    task.sendmsg(first, b"x", [Rights((sentinel.writing,))])
    task.close(first)
    for _ in range(1500):
        sending, receiving = task.socketpair(socket.SOCK_DGRAM)
        task.sendmsg(sending, b"x", [Rights((number,))])
        task.close(sending)
        task.close(number)
        number = receiving
    sentinel.only_in_flight()
    assert not sentinel.gone()
    task.close(number)
    assert task.poll(sentinel.reading) & HUP


def test_a_peeked_copy_keeps_the_cycle_alive(task: Task) -> None:
    sentinel = Sentinel(task)
    a, b = task.socketpair()
    task.sendmsg(b, b"x", [Rights((a, sentinel.writing))])
    received = task.recvmsg(a, 1, 24, socket.MSG_PEEK).control[0]
    assert isinstance(received, Rights)
    copy, writing = received.numbers
    task.close(writing)
    task.close(a)
    task.close(b)
    sentinel.only_in_flight()
    assert not sentinel.gone()
    task.close(copy)
    eventually(sentinel.gone)


def test_nothing_is_collected_before_some_socket_is_closed() -> None:
    """On Linux any process's socket will do, so only the model can be asked."""
    task = Kernel().spawn()
    reading, writing = task.pipe2()
    a, b = task.socketpair()
    task.sendmsg(a, b"x", [Rights((a, b, writing))])
    for number in (a, b, writing):
        task.close(number)
    assert not task.poll(reading) & HUP
    set_off(task)
    assert task.poll(reading) & HUP
