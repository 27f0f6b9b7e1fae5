"""eventfd: a counter of eight bytes."""

import errno
import os
import select

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

SEMAPHORE, NONBLOCK = 1, os.O_NONBLOCK


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


def test_a_read_takes_the_counter_and_a_write_adds_to_it(task: Task) -> None:
    fd = task.eventfd2(3, NONBLOCK)
    assert task.write(fd, number(4)) == 8
    assert task.read(fd, 100) == number(7)
    with failing(errno.EAGAIN):
        task.read(fd, 8)


def test_a_semaphore_is_read_one_by_one(task: Task) -> None:
    fd = task.eventfd2(2, SEMAPHORE | NONBLOCK)
    assert [task.read(fd, 8), task.read(fd, 8)] == [number(1), number(1)]
    with failing(errno.EAGAIN):
        task.read(fd, 8)


def test_only_eight_bytes_are_a_number(task: Task) -> None:
    fd = task.eventfd2(1)
    for count in (0, 7):
        with failing(errno.EINVAL):
            task.read(fd, count)
    for data in (b"", bytes(7), bytes(9), b"\xff" * 8):
        with failing(errno.EINVAL):
            task.write(fd, data)
    assert task.read(fd, 8) == number(1)


def test_the_counter_has_a_top(task: Task) -> None:
    fd = task.eventfd2(0, NONBLOCK)
    task.write(fd, number(2**64 - 2))
    assert task.poll(fd) == select.POLLIN
    with failing(errno.EAGAIN):
        task.write(fd, number(1))
    assert task.write(fd, number(0)) == 8
    assert task.read(fd, 8) == number(2**64 - 2)
    assert task.poll(fd) == select.POLLOUT


def test_a_read_that_waits_gets_what_another_writes(task: Task) -> None:
    fd = task.eventfd2()
    child = task.fork()
    call = child.begin("read", fd, 8)
    assert not call.done
    task.write(fd, number(5))
    assert call.result() == number(5)


def test_flags_and_offset_are_as_linux_has_them(task: Task) -> None:
    fd = task.eventfd2(0, os.O_CLOEXEC | NONBLOCK)
    assert task.table()[fd].cloexec
    assert task.fcntl(fd, 3) == os.O_RDWR | NONBLOCK
    assert task.lseek(fd, 5) == 0
    with failing(errno.EINVAL):
        task.eventfd2(0, 2)
    assert len(task.table()) == 1
