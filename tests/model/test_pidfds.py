"""pidfds: what they name, what they tell, and what one may take by them."""

import errno
import os
import select
import signal

import pytest

from fdproof.model import Info, Kernel, Task, Waited
from tests.model.failing import failing

pytestmark = pytest.mark.requires_kernel("PIDFD_GET_INFO", "pidfd_getfd")

NONBLOCK, THREAD = os.O_NONBLOCK, os.O_EXCL
CLONE_PIDFD = 0x1000
CLONE_AS_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000
EXIT = 8
ENDED = select.POLLIN | select.POLLRDNORM
REAPED = ENDED | select.POLLHUP
NOBODY = 4194303


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


def reap(task: Task, child: Task) -> Waited:
    """Wait for a child that has ended."""
    waited = task.waitid(os.P_PID, child.pid, os.WEXITED)
    assert waited is not None
    return waited


def test_a_pidfd_is_always_close_on_exec(task: Task) -> None:
    pidfd = task.pidfd_open(task.pid)
    assert task.table()[pidfd].cloexec
    assert task.fcntl(pidfd, 3) == os.O_RDWR
    assert task.fcntl(task.pidfd_open(task.pid, NONBLOCK), 3) == os.O_RDWR | NONBLOCK
    assert task.fcntl(task.pidfd_open(task.pid, THREAD), 3) == os.O_RDWR | THREAD


def test_every_pidfd_is_a_file_of_its_own(task: Task) -> None:
    one, other = task.pidfd_open(task.pid), task.pidfd_open(task.pid)
    table = task.table()
    assert table[one].file != table[other].file


@pytest.mark.parametrize(
    ("pid", "flags", "number"),
    [
        (0, 0, errno.EINVAL),
        (-1, 0, errno.EINVAL),
        (NOBODY, 0, errno.ESRCH),
        (NOBODY, THREAD, errno.ESRCH),
        (NOBODY, 1, errno.EINVAL),
    ],
)
def test_pidfd_open_looks_at_flags_before_it_looks_for_the_process(
    task: Task, pid: int, flags: int, number: int
) -> None:
    with failing(number):
        task.pidfd_open(pid, flags)


def test_pidfd_open_finds_the_process_before_a_number(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=0)
    with failing(errno.ESRCH):
        task.pidfd_open(NOBODY)
    with failing(errno.EMFILE):
        task.pidfd_open(task.pid)


def test_a_pidfd_has_no_offset_and_no_data(task: Task) -> None:
    pidfd = task.pidfd_open(task.pid)
    with failing(errno.ESPIPE):
        task.lseek(pidfd, 0)
    with failing(errno.EINVAL):
        task.read(pidfd, 1)
    with failing(errno.EINVAL):
        task.write(pidfd, b"x")


@pytest.mark.requires_kernel("PIDFD_THREAD")
def test_the_number_of_a_thread_needs_the_flag(task: Task) -> None:
    thread = task.clone(CLONE_AS_THREAD)
    number = _thread_number(thread)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        task.pidfd_open(number)
    assert caught.value.errno in (errno.ENOENT, errno.EINVAL)  # EINVAL before 6.16
    pidfd = task.pidfd_open(number, THREAD)
    assert task.pidfd_info(pidfd).pid == number
    assert task.poll(pidfd) == 0
    thread.exit()
    assert task.poll(pidfd) == REAPED
    with failing(errno.ESRCH):
        task.pidfd_open(number, THREAD)


def _thread_number(thread: Task) -> int:
    return int(getattr(thread, "id", thread.pid))


def test_a_zombie_is_there_until_it_is_reaped(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    assert task.poll(pidfd) == 0
    child.exit(7)
    assert task.poll(pidfd) == ENDED
    again = task.pidfd_open(child.pid)
    reap(task, child)
    assert task.poll(pidfd) == task.poll(again) == REAPED
    with failing(errno.ESRCH):
        task.pidfd_open(child.pid)


@pytest.mark.requires_kernel("PIDFD_INFO_EXIT")
def test_how_a_process_ended_is_told_after_it_was_reaped(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    assert task.pidfd_info(pidfd, EXIT) == Info(7, child.pid, 0)
    child.exit(7)
    assert task.pidfd_info(pidfd, EXIT) == Info(7, child.pid, 0)
    reap(task, child)
    with failing(errno.ESRCH):
        task.pidfd_info(pidfd)
    assert task.pidfd_info(pidfd, EXIT) == Info(12, 0, 7 << 8)
    assert task.pidfd_info(pidfd, EXIT | 1) == Info(12, 0, 7 << 8)


@pytest.mark.requires_kernel("PIDFD_INFO_EXIT")
def test_a_killed_process_ends_with_the_signal(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    task.pidfd_send_signal(pidfd, signal.SIGKILL)
    call = task.begin("waitid", os.P_PIDFD, pidfd, os.WEXITED)
    assert call.result() == Waited(child.pid, os.CLD_KILLED, signal.SIGKILL)
    assert task.pidfd_info(pidfd, EXIT).exit_code == signal.SIGKILL


@pytest.mark.requires_kernel("PIDFD_INFO_COREDUMP")
def test_the_core_dump_is_told_only_where_asked_for(task: Task) -> None:
    pidfd = task.pidfd_open(task.pid)
    masks = [task.pidfd_info(pidfd, mask).mask for mask in (0, 16, 24)]
    assert masks == [7, 23, 23]


def test_what_is_no_pidfd_has_no_info(task: Task) -> None:
    reading, _ = task.pipe2()
    epoll, path, listener = task.epoll_create1(), task.open("/", os.O_PATH), task.seccomp(["dup"])
    for fd, number in (
        (reading, errno.ENOTTY),
        (epoll, errno.EINVAL),
        (listener, errno.EINVAL),
        (path, errno.EBADF),
        (99, errno.EBADF),
        (-1, errno.EBADF),
    ):
        with failing(number):
            task.pidfd_info(fd)


# -- pidfd_getfd


def test_pidfd_getfd_takes_the_same_file_close_on_exec(task: Task) -> None:
    child = task.fork()
    reading, _ = child.pipe2()
    pidfd = task.pidfd_open(child.pid)
    taken = task.pidfd_getfd(pidfd, reading)
    table = task.table()
    assert table[taken].file == child.table()[reading].file
    assert table[taken].cloexec
    child.exit()


def test_pidfd_getfd_takes_o_path_and_itself(task: Task) -> None:
    path = task.open("/", os.O_PATH)
    pidfd = task.pidfd_open(task.pid)
    assert task.pidfd_getfd(pidfd, path) == 2
    assert task.pidfd_getfd(pidfd, pidfd) == 3


def test_pidfd_getfd_checks_in_linuxs_order(task: Task) -> None:
    reading, _ = task.pipe2()
    pidfd = task.pidfd_open(task.pid)
    for fd, wanted, flags, number in (
        (99, 99, 1, errno.EINVAL),
        (99, reading, 0, errno.EBADF),
        (reading, reading, 0, errno.EBADF),
        (pidfd, 99, 0, errno.EBADF),
        (pidfd, -1, 0, errno.EBADF),
        (-10000, reading, 0, errno.EBADF),
    ):
        with failing(number):
            task.pidfd_getfd(fd, wanted, flags)


def test_pidfd_getfd_finds_nothing_in_a_process_that_ended(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    child.exit()
    for fd in (0, 99):
        with failing(errno.ESRCH):
            task.pidfd_getfd(pidfd, fd)
    reap(task, child)
    with failing(errno.ESRCH):
        task.pidfd_getfd(pidfd, 0)


def test_pidfd_getfd_needs_room(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=1)
    pidfd = task.pidfd_open(task.pid)
    with failing(errno.EMFILE):
        task.pidfd_getfd(pidfd, pidfd)
    with failing(errno.EBADF):
        task.pidfd_getfd(pidfd, 99)


def test_pidfd_getfd_takes_nothing_from_another_user(kernel: Kernel) -> None:
    victim, thief, root = kernel.spawn(uid=1000), kernel.spawn(uid=1001), kernel.spawn()
    fd = victim.eventfd2()
    stolen = thief.pidfd_open(victim.pid)
    for wanted in (fd, 99):
        with failing(errno.EPERM):
            thief.pidfd_getfd(stolen, wanted)
    assert root.pidfd_getfd(root.pidfd_open(victim.pid), fd) == 1


# -- signals


def test_signal_zero_asks_and_does_nothing(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    task.pidfd_send_signal(pidfd, 0)
    task.pidfd_send_signal(pidfd, signal.SIGCHLD)
    assert task.poll(pidfd) == 0
    child.exit()
    for number in (0, signal.SIGKILL):
        task.pidfd_send_signal(pidfd, number)  # a zombie hears everything
    reap(task, child)
    for number in (0, signal.SIGKILL, 99):
        with failing(errno.ESRCH):
            task.pidfd_send_signal(pidfd, number)


def test_a_signal_goes_to_no_process_that_has_the_number_later(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    child.exit()
    reap(task, child)
    other = task.fork()
    with failing(errno.ESRCH):
        task.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert other.getpid() == other.pid


@pytest.mark.requires_kernel("PIDFD_SIGNAL_PROCESS_GROUP")
def test_pidfd_send_signal_checks_in_linuxs_order(task: Task) -> None:
    reading, _ = task.pipe2()
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    for fd, number, flags, expected in (
        (99, 99, 8, errno.EINVAL),
        (99, 0, 3, errno.EINVAL),
        (99, 99, 0, errno.EBADF),
        (reading, 0, 0, errno.EBADF),
        (pidfd, 65, 0, errno.EINVAL),
        (pidfd, -1, 0, errno.EINVAL),
        (pidfd, 0, 4, errno.ESRCH),
    ):
        with failing(expected):
            task.pidfd_send_signal(fd, number, flags)
    for flags in (0, 1, 2):
        task.pidfd_send_signal(pidfd, 0, flags)


def test_a_signal_to_another_user_is_not_permitted(kernel: Kernel) -> None:
    one, other = kernel.spawn(uid=1000), kernel.spawn(uid=1001)
    pidfd = one.pidfd_open(other.pid)
    for number in (0, signal.SIGTERM):
        with failing(errno.EPERM):
            one.pidfd_send_signal(pidfd, number)
    with failing(errno.EINVAL):
        one.pidfd_send_signal(pidfd, 65)
    with failing(errno.EPERM):
        one.kill(other.pid, 0)


def test_kill_finds_processes_by_number(task: Task) -> None:
    child = task.fork()
    task.kill(child.pid, 0)
    with failing(errno.EINVAL):
        task.kill(child.pid, 65)
    with failing(errno.ESRCH):
        task.kill(NOBODY, 0)
    task.kill(child.pid, signal.SIGTERM)
    call = task.begin("waitid", os.P_PID, child.pid, os.WEXITED)
    assert call.result() == Waited(child.pid, os.CLD_KILLED, signal.SIGTERM)


# -- clone


def test_clone_gives_the_parent_a_pidfd_that_the_child_does_not_have(task: Task) -> None:
    child = task.clone(CLONE_PIDFD)
    assert child.pidfd == 0
    assert task.table()[0].cloexec
    assert child.table() == {}
    assert task.pidfd_info(0).pid == child.pid


def test_a_child_that_shares_the_table_has_its_own_pidfd(task: Task) -> None:
    child = task.clone(CLONE_PIDFD | 0x400)
    assert child.pidfd == 0
    assert child.pidfd_info(0).pid == child.getpid()


def test_clone_without_room_for_the_pidfd_makes_no_child(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=0)
    with failing(errno.EMFILE):
        task.clone(CLONE_PIDFD)
    with failing(errno.ECHILD):
        task.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)


@pytest.mark.requires_kernel("PIDFD_THREAD")
def test_the_pidfd_of_a_thread_means_the_thread(task: Task) -> None:
    thread = task.clone(CLONE_AS_THREAD | CLONE_PIDFD)
    assert thread.pidfd == 0
    assert task.fcntl(0, 3) == os.O_RDWR | THREAD
    process, leader = task.pidfd_open(task.pid), task.pidfd_open(task.pid, THREAD)
    thread.exit()
    assert [task.poll(fd) for fd in (0, process, leader)] == [REAPED, 0, 0]


@pytest.mark.requires_kernel("PIDFD_THREAD")
def test_a_process_has_ended_when_its_last_thread_has(task: Task) -> None:
    child = task.fork()
    other = child.clone(CLONE_AS_THREAD)
    process, leader = task.pidfd_open(child.pid), task.pidfd_open(child.pid, THREAD)
    child.exit(3)
    assert [task.poll(fd) for fd in (process, leader)] == [0, 0]
    with failing(errno.ESRCH):
        task.pidfd_getfd(process, 0)
    assert task.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is None
    other.exit(5)
    assert [task.poll(fd) for fd in (process, leader)] == [ENDED, ENDED]
    assert task.waitid(os.P_ALL, 0, os.WEXITED) == Waited(child.pid, os.CLD_EXITED, 5)


def test_epoll_hears_of_the_end_and_of_the_reaping(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    epoll = task.epoll_create1()
    task.epoll_ctl(epoll, 1, pidfd, select.EPOLLIN | select.EPOLLET, 7)
    assert task.epoll_wait(epoll) == []
    child.exit()
    assert task.epoll_wait(epoll) == [(7, select.EPOLLIN)]
    reap(task, child)
    assert task.epoll_wait(epoll) == [(7, select.EPOLLIN | select.EPOLLHUP)]
