"""What the kernel's own tests and the Linux Test Project ask of pidfds and waiting, asked anew."""

import errno
import os
import select
import signal

import pytest

from fdproof.model import Info, Kernel, Task, Waited
from tests.model.failing import failing

CLONE_FILES, CLONE_PIDFD = 0x400, 0x1000
A_THREAD = 0x100 | 0x400 | 0x800 | 0x10000
PIDFD_THREAD, INFO_EXIT = os.O_EXCL, 8
ENDED = select.POLLIN | select.POLLRDNORM
NOBODYS = 2**22 + 1


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn(rlimit_nofile=16)


@pytest.fixture
def child(task: Task) -> Task:
    return task.fork()


@pytest.fixture
def pidfd(task: Task, child: Task) -> int:
    return task.pidfd_open(child.pid)


def test_descriptors_of_a_user_with_more_privilege_stay_there(kernel: Kernel) -> None:
    """pidfd_getfd_test.c: disable_ptrace. pidfd_getfd02."""
    victim, task = kernel.spawn(), kernel.spawn(uid=1234)
    victim.eventfd2()
    with failing(errno.EPERM):
        task.pidfd_getfd(task.pidfd_open(victim.pid), 0)


def test_a_fetched_descriptor_is_of_the_same_file_and_close_on_exec(
    task: Task, child: Task, pidfd: int
) -> None:
    """pidfd_getfd_test.c: fetch_fd. pidfd_getfd01."""
    theirs = child.memfd_create()
    number = task.pidfd_getfd(pidfd, theirs)
    assert task.table()[number].file == child.table()[theirs].file
    assert task.fcntl(number, 1) == 1


def test_what_the_other_has_not_open_cannot_be_fetched(task: Task, pidfd: int) -> None:
    """pidfd_getfd_test.c: test_unknown_fd."""
    with failing(errno.EBADF):
        task.pidfd_getfd(pidfd, 0)


def test_fetching_knows_no_flags(task: Task, pidfd: int) -> None:
    """pidfd_getfd_test.c: flags_set."""
    with failing(errno.EINVAL):
        task.pidfd_getfd(pidfd, 0, 1)


def test_fetching_from_a_number_that_is_no_pidfd_is_refused(task: Task) -> None:
    """pidfd_getfd02."""
    with failing(errno.EBADF):
        task.pidfd_getfd(-1, 0)
    with failing(errno.EBADF):
        task.pidfd_getfd(task.eventfd2(), 0)


@pytest.mark.parametrize("status", [0, 123])
def test_the_status_of_who_left_is_told_once_it_is_reaped(
    task: Task, child: Task, pidfd: int, status: int
) -> None:
    """pidfd_info_test.c: success_exit, success_reaped, success_reaped_poll."""
    child.exit(status)
    assert task.pidfd_info(pidfd, INFO_EXIT) == Info(7, child.pid, 0)
    assert task.poll(pidfd) == ENDED
    task.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert task.pidfd_info(pidfd, INFO_EXIT).exit_code == status << 8
    assert task.poll(pidfd) == ENDED | select.POLLHUP


def test_the_signal_that_killed_is_told_once_it_is_reaped(
    task: Task, child: Task, pidfd: int
) -> None:
    """pidfd_info_test.c: sigkill_exit, sigkill_reaped."""
    task.pidfd_send_signal(pidfd, signal.SIGKILL)
    waited = None
    while waited is None:
        waited = task.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    assert waited == Waited(child.pid, os.CLD_KILLED, signal.SIGKILL)
    assert task.pidfd_info(pidfd, INFO_EXIT).exit_code == signal.SIGKILL


def test_the_first_thread_leaves_and_the_process_lives_on(task: Task, child: Task) -> None:
    """pidfd_info_test.c: thread_group."""
    thread = child.clone(A_THREAD)
    process, leader = task.pidfd_open(child.pid), task.pidfd_open(child.pid, PIDFD_THREAD)
    other = task.pidfd_open(thread.pid, PIDFD_THREAD)
    child.exit(1)
    assert task.poll(process) == 0
    assert task.waitid(os.P_PIDFD, process, os.WEXITED | os.WNOHANG) is None
    thread.exit(2)
    assert task.poll(process) == ENDED
    assert task.poll(other) == ENDED | select.POLLHUP
    task.waitid(os.P_PIDFD, process, os.WEXITED)
    assert task.pidfd_info(leader, INFO_EXIT).exit_code == 2 << 8
    assert task.pidfd_info(process, INFO_EXIT).exit_code == 2 << 8


def test_a_thread_executes_and_the_pidfd_of_the_process_stays_quiet(
    task: Task, child: Task
) -> None:
    """pidfd_info_test.c: thread_group_exec. pidfd_poll_test.c."""
    thread = child.clone(A_THREAD)
    process = task.pidfd_open(child.pid)
    pid = child.pid
    thread.execve()
    assert task.poll(process) == 0
    assert task.pidfd_info(process).pid == pid
    thread.exit(4)
    assert task.poll(process) == ENDED
    waited = task.waitid(os.P_PIDFD, process, os.WEXITED)
    assert waited == Waited(pid, os.CLD_EXITED, 4)


def test_waiting_takes_the_child_of_the_pidfd(task: Task, child: Task, pidfd: int) -> None:
    """pidfd_wait.c: wait_simple. waitid07 and its kin."""
    other = task.fork()
    other.exit(1)
    child.exit(2)
    assert task.waitid(os.P_PIDFD, pidfd, os.WEXITED) == Waited(child.pid, os.CLD_EXITED, 2)
    with failing(errno.ECHILD):
        task.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert task.waitid(os.P_ALL, 0, os.WEXITED) == Waited(other.pid, os.CLD_EXITED, 1)


def test_waiting_takes_no_other_descriptor_for_a_pidfd(task: Task) -> None:
    """pidfd_wait.c."""
    for number in (task.eventfd2(), 9):
        with failing(errno.EBADF):
            task.waitid(os.P_PIDFD, number, os.WEXITED)
    with failing(errno.EINVAL):
        task.waitid(os.P_PIDFD, -1, os.WEXITED)


def test_a_pidfd_that_does_not_wait_says_so(task: Task, child: Task) -> None:
    """pidfd_wait.c: wait_nonblock. pidfd_open04."""
    pidfd = task.pidfd_open(child.pid, os.O_NONBLOCK)
    with failing(errno.EAGAIN):
        task.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    child.exit()
    assert task.waitid(os.P_PIDFD, pidfd, os.WEXITED) is not None


@pytest.mark.parametrize("options", [0, os.WNOHANG, 1 << 20])
def test_waiting_must_say_for_what(task: Task, child: Task, options: int) -> None:
    """waitid04 and its kin."""
    with failing(errno.EINVAL):
        task.waitid(os.P_PID, child.pid, options)


def test_waiting_for_nobodys_child_is_refused(task: Task) -> None:
    """waitid03 and its kin."""
    with failing(errno.ECHILD):
        task.waitid(os.P_ALL, 0, os.WEXITED)


def test_a_pidfd_opens_close_on_exec(task: Task, pidfd: int) -> None:
    """pidfd_open01."""
    assert task.fcntl(pidfd, 1) == 1


@pytest.mark.parametrize(
    ("pid", "flags", "number"),
    [(NOBODYS, 0, errno.ESRCH), (-1, 0, errno.EINVAL), (0, 0, errno.EINVAL)],
)
def test_a_pidfd_needs_a_process(task: Task, pid: int, flags: int, number: int) -> None:
    """pidfd_open02, pidfd_open_test.c."""
    with failing(number):
        task.pidfd_open(pid, flags)
    with failing(errno.EINVAL):
        task.pidfd_open(task.pid, 1)


def test_a_pidfd_is_readable_when_its_process_has_ended(
    task: Task, child: Task, pidfd: int
) -> None:
    """pidfd_open03, pidfd_poll_test.c."""
    assert task.poll(pidfd) == 0
    child.exit()
    assert task.poll(pidfd) == ENDED


def test_an_epoll_hears_of_the_end(task: Task, child: Task, pidfd: int) -> None:
    """pidfd_test.c: polling for the exit."""
    epoll = task.epoll_create1()
    task.epoll_ctl(epoll, 1, pidfd, select.EPOLLIN, 5)
    assert task.epoll_wait(epoll) == []
    child.exit()
    assert task.epoll_wait(epoll) == [(5, select.EPOLLIN)]


def test_signals_reach_a_zombie_and_nobody_after_it(task: Task, child: Task, pidfd: int) -> None:
    """pidfd_test.c: sending to who has exited. pidfd_send_signal03: not to who has the number now."""
    child.exit()
    task.pidfd_send_signal(pidfd, signal.SIGKILL)
    task.waitid(os.P_PID, child.pid, os.WEXITED)
    with failing(errno.ESRCH):
        task.pidfd_send_signal(pidfd, signal.SIGKILL)


def test_signalling_refuses_flags_other_files_and_other_users(kernel: Kernel) -> None:
    """pidfd_send_signal02."""
    task, other = kernel.spawn(uid=1234), kernel.spawn()
    pidfd = task.pidfd_open(task.pid)
    with failing(errno.EINVAL):
        task.pidfd_send_signal(pidfd, 0, 3)
    with failing(errno.EINVAL):
        task.pidfd_send_signal(pidfd, 65)
    with failing(errno.EBADF):
        task.pidfd_send_signal(task.eventfd2(), 0)
    with failing(errno.EPERM):
        task.pidfd_send_signal(task.pidfd_open(other.pid), signal.SIGUSR1)


def test_clone_gives_a_pidfd_and_refuses_what_does_not_go_together(task: Task) -> None:
    """clone301, clone302."""
    child = task.clone(CLONE_PIDFD)
    assert child.pidfd == 0
    task.pidfd_send_signal(0, 0)
    for flags in (0x10000, 0x800):
        with failing(errno.EINVAL):
            task.clone(flags)
    assert sorted(task.table()) == [0]
