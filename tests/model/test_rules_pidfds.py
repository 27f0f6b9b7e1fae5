"""The rules of docs/reference/model-rules.md on pidfds."""

import errno
import os
import select
import signal

import pytest

from fdproof.model import Info, Kernel, Task, Waited
from tests.model.failing import failing

A_THREAD = 0x100 | 0x400 | 0x800 | 0x10000
PIDFD_THREAD = os.O_EXCL
INFO_EXIT = 8
ENDED = select.POLLIN | select.POLLRDNORM
REAPED = ENDED | select.POLLHUP
NOBODYS = 2**22 + 1


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn(rlimit_nofile=8)


def test_rule_66_a_pidfd_is_close_on_exec_always(task: Task) -> None:
    assert task.pidfd_open(task.pid) == 0
    assert task.table()[0].cloexec
    for pid, flags, number in (
        (0, 0, errno.EINVAL),
        (-1, 0, errno.EINVAL),
        (task.pid, 1, errno.EINVAL),
        (NOBODYS, 0, errno.ESRCH),
    ):
        with failing(number):
            task.pidfd_open(pid, flags)


def test_rule_67_a_pidfd_of_a_thread_must_be_asked_for_by_a_flag(task: Task) -> None:
    thread = task.clone(A_THREAD)
    with failing(errno.ENOENT):
        task.pidfd_open(thread.pid)
    assert task.pidfd_open(thread.pid, PIDFD_THREAD) == 0
    assert task.pidfd_open(task.pid) == 1


def test_rule_68_pidfd_getfd_brings_the_file_close_on_exec(task: Task) -> None:
    child = task.fork()
    child.open("/a", os.O_RDWR | os.O_CREAT)
    pidfd = task.pidfd_open(child.pid)
    number = task.pidfd_getfd(pidfd, 0)
    assert task.table()[number].file == child.table()[0].file
    assert task.table()[number].cloexec
    with failing(errno.EINVAL):
        task.pidfd_getfd(pidfd, 0, 1)
    with failing(errno.EBADF):
        task.pidfd_getfd(pidfd, 1)
    with failing(errno.EBADF):
        task.pidfd_getfd(number, 0)
    task.setrlimit(2)
    with failing(errno.EMFILE):
        task.pidfd_getfd(pidfd, 0)


def test_rule_69_there_is_nothing_to_get_from_who_has_ended(task: Task) -> None:
    child = task.fork()
    child.eventfd2()
    pidfd = task.pidfd_open(child.pid)
    child.exit()
    with failing(errno.ESRCH):
        task.pidfd_getfd(pidfd, 0)


def test_rule_70_nobody_takes_descriptors_of_another_user_without_privilege(
    kernel: Kernel,
) -> None:
    victim = kernel.spawn()
    victim.eventfd2()
    task = kernel.spawn(uid=1234)
    pidfd = task.pidfd_open(victim.pid)
    with failing(errno.EPERM):
        task.pidfd_getfd(pidfd, 0)
    with failing(errno.EPERM):
        task.pidfd_send_signal(pidfd, 0)


def test_rule_71_a_signal_can_be_sent_to_a_zombie_and_not_to_who_was_reaped(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    task.pidfd_send_signal(pidfd, 0)
    child.exit()
    task.pidfd_send_signal(pidfd, signal.SIGTERM)
    task.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    with failing(errno.ESRCH):
        task.pidfd_send_signal(pidfd, 0)


def test_rule_72_a_pidfd_is_readable_after_the_end_and_hangs_up_after_the_reaping(
    task: Task,
) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    assert task.poll(pidfd) == 0
    child.exit()
    assert task.poll(pidfd) == ENDED
    task.waitid(os.P_PID, child.pid, os.WEXITED)
    assert task.poll(pidfd) == REAPED


def test_rule_73_how_it_ended_is_told_only_after_the_reaping_and_only_if_asked_for(
    task: Task,
) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    child.exit(7)
    assert task.pidfd_info(pidfd, INFO_EXIT) == Info(7, child.pid, 0)
    task.waitid(os.P_PID, child.pid, os.WEXITED)
    assert task.pidfd_info(pidfd, INFO_EXIT) == Info(INFO_EXIT | 4, 0, 7 << 8)
    with failing(errno.ESRCH):
        task.pidfd_info(pidfd)


def test_rule_74_waiting_by_pidfd_reaps_once(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid, os.O_NONBLOCK)
    with failing(errno.EAGAIN):
        task.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert task.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is None
    child.exit(3)
    waited = Waited(child.pid, os.CLD_EXITED, 3)
    assert task.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT) == waited
    assert task.waitid(os.P_PIDFD, pidfd, os.WEXITED) == waited
    with failing(errno.ECHILD):
        task.waitid(os.P_PIDFD, pidfd, os.WEXITED)
