"""epoll: what a registration belongs to, what it outlives, and the order in which it is reported."""

import contextlib
import errno
import os
import select

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

ADD, DELETE, MODIFY = 1, 2, 3
IN, OUT, HUP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP
EDGE, ONESHOT, EXCLUSIVE = select.EPOLLET, select.EPOLLONESHOT, select.EPOLLEXCLUSIVE


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


@pytest.fixture
def epoll(task: Task) -> int:
    return task.epoll_create1()


def test_epoll_create_knows_one_flag(task: Task) -> None:
    assert (task.epoll_create1(os.O_CLOEXEC), task.epoll_create1()) == (0, 1)
    assert [entry.cloexec for entry in task.table().values()] == [True, False]
    with failing(errno.EINVAL):
        task.epoll_create1(1)


def test_an_epoll_has_an_offset_that_stays_and_cannot_be_read(task: Task, epoll: int) -> None:
    assert task.lseek(epoll, 5) == 0
    assert task.fcntl(epoll, 3) == os.O_RDWR
    with failing(errno.EINVAL):
        task.read(epoll, 1)
    with failing(errno.EINVAL):
        task.write(epoll, b"x")


def test_the_checks_come_in_linuxs_order(task: Task, epoll: int) -> None:
    reading, writing = task.pipe2()
    directory = task.open("/", os.O_RDONLY)
    path = task.open("/", os.O_PATH)
    for epfd, operation, fd, number in (
        (99, 9, reading, errno.EBADF),
        (reading, ADD, 99, errno.EBADF),
        (epoll, ADD, 99, errno.EBADF),
        (epoll, ADD, path, errno.EBADF),
        (path, ADD, reading, errno.EBADF),
        (epoll, ADD, directory, errno.EPERM),
        (reading, ADD, directory, errno.EPERM),
        (epoll, 9, directory, errno.EPERM),
        (reading, ADD, writing, errno.EINVAL),
        (epoll, ADD, epoll, errno.EINVAL),
        (epoll, 9, reading, errno.EINVAL),
        (epoll, DELETE, reading, errno.ENOENT),
        (epoll, MODIFY, reading, errno.ENOENT),
    ):
        with failing(number):
            task.epoll_ctl(epfd, operation, fd, IN)
    for epfd, count, number in (
        (99, 0, errno.EBADF),
        (reading, 1, errno.EINVAL),
        (epoll, 0, errno.EINVAL),
        (epoll, -1, errno.EINVAL),
    ):
        with failing(number):
            task.epoll_wait(epfd, count)


def test_what_is_ready_is_reported_until_it_is_not(task: Task, epoll: int) -> None:
    reading, writing = task.pipe2()
    task.epoll_ctl(epoll, ADD, reading, IN, 7)
    assert task.epoll_wait(epoll) == []
    task.write(writing, b"x")
    assert task.epoll_wait(epoll) == [(7, IN)]
    assert task.epoll_wait(epoll) == [(7, IN)]
    task.read(reading, 1)
    assert task.epoll_wait(epoll) == []
    task.close(writing)
    assert task.epoll_wait(epoll) == [(7, HUP)]


def test_a_registration_belongs_to_number_and_file(task: Task, epoll: int) -> None:
    reading, writing = task.pipe2()
    task.epoll_ctl(epoll, ADD, reading, IN, 1)
    with failing(errno.EEXIST):
        task.epoll_ctl(epoll, ADD, reading, IN, 2)
    copy = task.dup(reading)
    task.epoll_ctl(epoll, ADD, copy, IN, 2)
    task.write(writing, b"x")
    assert task.epoll_wait(epoll) == [(2, IN), (1, IN)]  # the latest hears first


def test_a_closed_number_is_reported_as_long_as_its_file_lives(task: Task, epoll: int) -> None:
    reading, writing = task.pipe2()
    task.epoll_ctl(epoll, ADD, reading, IN, 1)
    copy = task.dup(reading)
    task.close(reading)
    task.write(writing, b"x")
    assert task.epoll_wait(epoll) == [(1, IN)]
    with failing(errno.EBADF):
        task.epoll_ctl(epoll, DELETE, reading)
    task.close(copy)
    assert task.epoll_wait(epoll) == []


def test_the_number_may_be_registered_again_with_another_file(task: Task, epoll: int) -> None:
    reading, writing = task.pipe2()
    task.epoll_ctl(epoll, ADD, reading, IN, 1)
    task.dup(reading)
    task.close(reading)
    other = task.eventfd2(1)
    assert other == reading
    with failing(errno.ENOENT):
        task.epoll_ctl(epoll, DELETE, other)
    task.epoll_ctl(epoll, ADD, other, IN, 2)
    task.write(writing, b"x")
    assert task.epoll_wait(epoll) == [(2, IN), (1, IN)]


def test_the_file_back_at_its_number_is_the_old_registration(task: Task, epoll: int) -> None:
    reading, writing = task.pipe2()
    task.epoll_ctl(epoll, ADD, reading, IN, 1)
    copy = task.dup(reading)
    task.close(reading)
    task.dup2(copy, reading)
    with failing(errno.EEXIST):
        task.epoll_ctl(epoll, ADD, reading, IN, 2)
    task.epoll_ctl(epoll, MODIFY, reading, IN, 3)
    task.write(writing, b"x")
    assert task.epoll_wait(epoll) == [(3, IN)]
    task.epoll_ctl(epoll, DELETE, reading)
    assert task.epoll_wait(epoll) == []


def test_a_file_that_another_process_has_is_reported(task: Task, epoll: int) -> None:
    reading, writing = task.pipe2()
    task.epoll_ctl(epoll, ADD, reading, IN, 1)
    child = task.fork()
    task.close(reading)
    task.write(writing, b"x")
    assert task.epoll_wait(epoll) == [(1, IN)]
    child.close(reading)
    assert task.epoll_wait(epoll) == []


def test_who_was_reported_goes_behind_those_that_had_no_turn(task: Task, epoll: int) -> None:
    events = [task.eventfd2(1) for _ in range(3)]
    for fd in events:
        task.epoll_ctl(epoll, ADD, fd, IN, fd)
    first, second, third = [(fd, int(IN)) for fd in events]
    assert task.epoll_wait(epoll, 2) == [first, second]
    assert task.epoll_wait(epoll, 2) == [third, first]
    assert task.epoll_wait(epoll, 1) == [second]
    assert task.epoll_wait(epoll, 9) == [third, first, second]


def test_the_order_is_that_of_becoming_ready(task: Task, epoll: int) -> None:
    one, two = task.eventfd2(), task.eventfd2()
    for fd in (one, two):
        task.epoll_ctl(epoll, ADD, fd, IN, fd)
    task.write(two, (1).to_bytes(8, "little"))
    task.write(one, (1).to_bytes(8, "little"))
    assert task.epoll_wait(epoll) == [(two, IN), (one, IN)]


def test_an_edge_is_reported_once_and_again_with_new_data(task: Task, epoll: int) -> None:
    a, b = task.socketpair()
    task.epoll_ctl(epoll, ADD, a, IN | EDGE, 1)
    task.write(b, b"x")
    assert task.epoll_wait(epoll) == [(1, IN)]
    assert task.epoll_wait(epoll) == []
    task.write(b, b"y")
    assert task.epoll_wait(epoll) == [(1, IN)]
    task.write(b, b"z")
    task.read(a, 9)
    assert task.epoll_wait(epoll) == []


def test_an_edge_that_was_there_before_is_reported(task: Task, epoll: int) -> None:
    fd = task.eventfd2(1)
    task.epoll_ctl(epoll, ADD, fd, IN | EDGE, 1)
    assert task.epoll_wait(epoll) == [(1, IN)]
    task.epoll_ctl(epoll, MODIFY, fd, IN | EDGE, 2)
    assert task.epoll_wait(epoll) == [(2, IN)]
    assert task.epoll_wait(epoll) == []


def test_room_made_by_the_reader_is_an_edge_for_the_writer(task: Task, epoll: int) -> None:
    a, b = task.socketpair()
    task.epoll_ctl(epoll, ADD, a, OUT | EDGE, 1)
    assert task.epoll_wait(epoll) == [(1, OUT)]
    task.write(a, b"x")
    assert task.epoll_wait(epoll) == []
    task.read(b, 1)
    assert task.epoll_wait(epoll) == [(1, OUT)]


def test_oneshot_needs_to_be_armed_again(task: Task, epoll: int) -> None:
    fd = task.eventfd2(1)
    task.epoll_ctl(epoll, ADD, fd, IN | ONESHOT, 1)
    assert task.epoll_wait(epoll) == [(1, IN)]
    task.write(fd, (1).to_bytes(8, "little"))
    assert task.epoll_wait(epoll) == []
    task.epoll_ctl(epoll, MODIFY, fd, IN | ONESHOT, 2)
    assert task.epoll_wait(epoll) == [(2, IN)]


def test_the_end_of_a_connection_is_reported_to_who_asked_for_nothing(
    task: Task, epoll: int
) -> None:
    a, b = task.socketpair()
    task.epoll_ctl(epoll, ADD, a, 0, 1)
    assert task.epoll_wait(epoll) == []
    task.close(b)
    assert task.epoll_wait(epoll) == [(1, HUP)]


def test_exclusive_is_for_adding_only_and_never_for_an_epoll(task: Task, epoll: int) -> None:
    fd, other = task.eventfd2(1), task.epoll_create1()
    task.epoll_ctl(epoll, ADD, fd, IN | EXCLUSIVE, 1)
    for operation, target, events in (
        (MODIFY, fd, IN),
        (MODIFY, fd, IN | EXCLUSIVE),
        (ADD, other, IN | EXCLUSIVE),
        (ADD, fd, IN | EXCLUSIVE | ONESHOT),
    ):
        with failing(errno.EINVAL):
            task.epoll_ctl(epoll, operation, target, events)
    assert task.epoll_wait(epoll) == [(1, IN)]


def test_an_epoll_is_readable_when_something_of_it_is_ready(task: Task, epoll: int) -> None:
    outer = task.epoll_create1()
    task.epoll_ctl(outer, ADD, epoll, IN, 1)
    fd = task.eventfd2()
    task.epoll_ctl(epoll, ADD, fd, IN, 2)
    assert (task.poll(epoll), task.epoll_wait(outer)) == (0, [])
    task.write(fd, (1).to_bytes(8, "little"))
    assert task.poll(epoll) == select.POLLIN | select.POLLRDNORM
    assert task.epoll_wait(outer) == [(1, IN)]
    task.read(fd, 8)
    assert task.epoll_wait(outer) == []


def test_epolls_may_not_watch_each_other(task: Task, epoll: int) -> None:
    middle, outer = task.epoll_create1(), task.epoll_create1()
    task.epoll_ctl(outer, ADD, middle, IN)
    task.epoll_ctl(middle, ADD, epoll, IN)
    with failing(errno.ELOOP):
        task.epoll_ctl(epoll, ADD, outer, IN)
    with failing(errno.ELOOP):
        task.epoll_ctl(epoll, ADD, middle, IN)


@pytest.mark.parametrize("order", [range(7), range(6, -1, -1)])
def test_five_epolls_in_a_row_are_the_most(task: Task, order: range) -> None:
    chain = [task.epoll_create1() for _ in range(8)]
    for place in order:
        refused = place == (4 if order[0] == 0 else 2)
        with failing(errno.ELOOP) if refused else contextlib.nullcontext():
            task.epoll_ctl(chain[place], ADD, chain[place + 1], IN)


def test_the_end_of_an_epoll_ends_its_registrations(task: Task, epoll: int) -> None:
    fd = task.eventfd2(1)
    task.epoll_ctl(epoll, ADD, fd, IN, 1)
    child = task.fork()
    task.close(epoll)
    assert child.epoll_wait(epoll) == [(1, IN)]
    child.close(epoll)
    again = task.epoll_create1()
    task.epoll_ctl(again, ADD, fd, IN, 2)
    task.close(fd)
    child.write(fd, (1).to_bytes(8, "little"))
    assert task.epoll_wait(again) == [(2, IN)]
