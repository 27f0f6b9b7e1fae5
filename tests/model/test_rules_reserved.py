"""The rules of docs/reference/model-rules.md on reserved numbers.

No program can hold Linux between reserving and installing, so these run on the model alone.
"""

import errno
import os
import select

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

UNSHARE, CLOEXEC = 2, 4


@pytest.fixture
def task() -> Task:
    """A task with a file as 0, and with 1 reserved."""
    task = Kernel().spawn(rlimit_nofile=8)
    task.eventfd2()
    assert task.get_unused_fd_flags() == 1
    return task


def install(task: Task) -> None:
    task.fd_install(1, task.fget(0))


def test_rule_86_a_reserved_number_is_taken_but_not_open(task: Task) -> None:
    assert task.dup(0) == 2
    for call in (task.dup, task.close, lambda fd: task.fcntl(fd, 1)):
        with failing(errno.EBADF):
            call(1)
    assert task.poll(1) == select.POLLNVAL
    assert sorted(task.table()) == [0, 2]


def test_rule_87_dup2_to_a_reserved_number_is_ebusy(task: Task) -> None:
    with failing(errno.EBUSY):
        task.dup2(0, 1)
    with failing(errno.EBUSY):
        task.dup3(0, 1, os.O_CLOEXEC)
    install(task)
    assert task.dup2(0, 1) == 1


def test_rule_88_close_range_leaves_a_reserved_number_reserved_but_marks_it(task: Task) -> None:
    task.close_range(1, 9)
    task.close_range(1, 9, CLOEXEC)
    install(task)
    assert task.table()[1].cloexec


def test_rule_89_copies_of_a_table_have_no_reservations(task: Task) -> None:
    assert task.fork().dup(0) == 1
    other = task.clone(0x400)
    other.close_range(7, 7, UNSHARE)
    assert other.dup(0) == 1
    install(task)


def test_rule_90_execve_takes_the_mark_from_a_reserved_number_not_the_number(task: Task) -> None:
    task.close_range(1, 1, CLOEXEC)
    task.execve()
    assert task.dup(0) == 2
    install(task)
    assert not task.table()[1].cloexec


def test_rule_91_a_number_that_is_given_back_is_free_at_once(task: Task) -> None:
    task.put_unused_fd(1)
    assert task.dup(0) == 1
