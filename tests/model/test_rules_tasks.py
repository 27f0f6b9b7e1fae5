"""The rules of docs/reference/model-rules.md on tasks: who has which table, and what ends it."""

import errno
import fcntl
import os

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

CLONE_FILES, CLONE_PIDFD = 0x400, 0x1000
A_THREAD = 0x100 | 0x400 | 0x800 | 0x10000


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A task with an empty file as 0."""
    task = kernel.spawn(rlimit_nofile=8)
    task.open("/a", os.O_RDWR | os.O_CREAT)
    return task


def test_rule_35_fork_copies_the_table_and_shares_the_files(task: Task) -> None:
    task.fcntl(0, fcntl.F_SETFD, 1)
    child = task.fork()
    assert child.table()[0].file == task.table()[0].file
    assert child.table()[0].cloexec
    task.write(0, b"abc")
    assert child.lseek(0, 0, os.SEEK_CUR) == 3
    child.close(0)
    assert sorted(task.table()) == [0]


def test_rule_36_the_child_of_a_fork_fills_gaps_from_the_lowest_on(task: Task) -> None:
    for _ in range(4):
        task.dup(0)
    task.close(1)
    child = task.fork()
    assert [child.dup(0), child.dup(0)] == [1, 5]
    assert [task.dup(0), task.dup(0)] == [1, 5]


def test_rule_37_with_clone_files_the_table_is_one(task: Task) -> None:
    other = task.clone(CLONE_FILES)
    assert other.dup(0) == 1
    assert sorted(task.table()) == [0, 1]
    task.close(0)
    with failing(errno.EBADF):
        other.dup(0)
    assert task.dup(1) == 0


def test_rule_38_the_limit_belongs_to_the_process_not_to_the_table(task: Task) -> None:
    other = task.clone(CLONE_FILES)
    other.setrlimit(1)
    with failing(errno.EMFILE):
        other.dup(0)
    assert task.dup(0) == 1


def test_rule_39_threads_have_one_table_and_one_limit(task: Task) -> None:
    thread = task.clone(A_THREAD)
    thread.setrlimit(2)
    assert thread.dup(0) == 1
    with failing(errno.EMFILE):
        task.dup(0)
    assert thread.getpid() == task.getpid()


def test_rule_40_unshare_gives_a_copy_and_asks_nothing_where_nothing_is_shared(task: Task) -> None:
    other = task.clone(CLONE_FILES)
    other.unshare(CLONE_FILES)
    other.close(0)
    assert sorted(task.table()) == [0]
    other.unshare(CLONE_FILES)
    with failing(errno.EINVAL):
        other.unshare(1)


def test_rule_41_execve_closes_what_is_close_on_exec_and_nothing_else(task: Task) -> None:
    task.fcntl(task.dup(0), fcntl.F_SETFD, 1)
    task.dup3(0, 5, os.O_CLOEXEC)
    task.dup2(0, 6)
    task.execve()
    assert sorted(task.table()) == [0, 6]
    assert task.dup(0) == 1
    assert not task.table()[1].cloexec


def test_rule_42_execve_takes_a_table_of_its_own_before_it_closes(task: Task) -> None:
    task.fcntl(0, fcntl.F_SETFD, 1)
    other = task.clone(CLONE_FILES)
    other.execve()
    assert sorted(other.table()) == []
    assert sorted(task.table()) == [0]


def test_rule_43_execve_ends_the_other_threads_and_takes_the_number_of_the_process(
    task: Task,
) -> None:
    pid = task.pid
    thread = task.clone(A_THREAD)
    thread.execve()
    assert thread.getpid() == thread.pid == pid
    assert sorted(thread.table()) == [0]


def test_rule_44_the_end_of_a_task_closes_its_table_unless_somebody_shares_it(task: Task) -> None:
    reader, writer = task.pipe2(os.O_NONBLOCK)
    sharer, copier = task.clone(CLONE_FILES), task.fork()
    task.close(writer)
    with failing(errno.EAGAIN):
        task.read(reader, 1)
    sharer.exit()
    with failing(errno.EAGAIN):
        task.read(reader, 1)
    copier.exit()
    assert task.read(reader, 1) == b""


def test_rule_45_clone_pidfd_gives_the_parent_a_close_on_exec_descriptor_of_the_child(
    task: Task,
) -> None:
    child = task.clone(CLONE_PIDFD)
    assert child.pidfd == 1
    assert task.table()[1].cloexec
    assert task.pidfd_info(1).pid == child.pid
    assert sorted(child.table()) == [0]


def test_rule_46_without_a_number_for_the_pidfd_there_is_no_child(task: Task) -> None:
    task.setrlimit(1)
    with failing(errno.EMFILE):
        task.clone(CLONE_PIDFD)
    with failing(errno.ECHILD):
        task.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)


def test_rule_47_a_thread_needs_the_memory_and_the_signal_handlers_of_its_process(
    task: Task,
) -> None:
    for flags in (0x10000, 0x10000 | 0x100, 0x800):
        with failing(errno.EINVAL):
            task.clone(flags)
