"""waitid: who can be waited for, and what is left of who has ended."""

import errno
import os

import pytest

from fdproof.model import Kernel, Task, Waited
from tests.model.failing import failing

pytestmark = pytest.mark.requires_kernel("pidfd_open")

WEXITED, WNOHANG, WNOWAIT = os.WEXITED, os.WNOHANG, os.WNOWAIT
P_ALL, P_PID, P_PIDFD = os.P_ALL, os.P_PID, os.P_PIDFD
NOBODY = 4194303


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


def test_a_zombie_is_told_once(task: Task) -> None:
    child = task.fork()
    child.exit(7)
    ended = Waited(child.pid, os.CLD_EXITED, 7)
    assert task.waitid(P_ALL, 0, WEXITED | WNOWAIT) == ended
    assert task.waitid(P_PID, child.pid, WEXITED) == ended
    with failing(errno.ECHILD):
        task.waitid(P_PID, child.pid, WEXITED)
    with failing(errno.ECHILD):
        task.waitid(P_ALL, 0, WEXITED | WNOHANG)


def test_who_has_not_ended_is_not_told(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid)
    for idtype, id in ((P_ALL, 0), (P_PID, child.pid), (P_PIDFD, pidfd)):
        assert task.waitid(idtype, id, WEXITED | WNOHANG) is None


def test_a_nonblocking_pidfd_says_again_unless_told_not_to_hang(task: Task) -> None:
    child = task.fork()
    pidfd = task.pidfd_open(child.pid, os.O_NONBLOCK)
    with failing(errno.EAGAIN):
        task.waitid(P_PIDFD, pidfd, WEXITED)
    assert task.waitid(P_PIDFD, pidfd, WEXITED | WNOHANG) is None
    child.exit(1)
    assert task.waitid(P_PIDFD, pidfd, WEXITED) == Waited(child.pid, os.CLD_EXITED, 1)
    with failing(errno.ECHILD):
        task.waitid(P_PIDFD, pidfd, WEXITED)


@pytest.mark.parametrize(
    ("idtype", "id", "options", "number"),
    [
        (P_ALL, 0, 0, errno.EINVAL),
        (P_ALL, 0, WNOHANG, errno.EINVAL),
        (P_ALL, 0, WEXITED | 0x10, errno.EINVAL),
        (9, 0, WEXITED, errno.EINVAL),
        (P_PID, 0, WEXITED, errno.EINVAL),
        (P_PID, -1, WEXITED, errno.EINVAL),
        (P_PIDFD, -1, WEXITED, errno.EINVAL),
        (P_PIDFD, 99, WEXITED, errno.EBADF),
        (P_PIDFD, 0, WEXITED, errno.EBADF),
        (P_PID, NOBODY, WEXITED, errno.ECHILD),
        (P_ALL, 0, WEXITED, errno.ECHILD),
    ],
)
def test_waitid_refuses(task: Task, idtype: int, id: int, options: int, number: int) -> None:
    task.pipe2()
    with failing(number):
        task.waitid(idtype, id, options)


def test_only_ones_own_children_can_be_waited_for(task: Task) -> None:
    child = task.fork()
    grandchild = child.fork()
    pidfd = task.pidfd_open(grandchild.pid)
    own = task.pidfd_open(task.pid)
    for idtype, id in (
        (P_PID, grandchild.pid),
        (P_PIDFD, pidfd),
        (P_PID, task.pid),
        (P_PIDFD, own),
    ):
        with failing(errno.ECHILD):
            task.waitid(idtype, id, WEXITED | WNOHANG)


def test_a_wait_ends_when_the_child_does(task: Task) -> None:
    child = task.fork()
    call = task.begin("waitid", P_ALL, 0, WEXITED)
    assert not call.done
    child.exit(4)
    assert call.result() == Waited(child.pid, os.CLD_EXITED, 4)


def test_any_thread_waits_for_the_children_of_its_process(task: Task) -> None:
    thread = task.clone(0x100 | 0x200 | 0x400 | 0x800 | 0x10000)
    child = task.fork()
    child.exit(2)
    assert thread.waitid(P_ALL, 0, WEXITED) == Waited(child.pid, os.CLD_EXITED, 2)


def test_the_oldest_zombie_comes_first(task: Task) -> None:
    children = [task.fork() for _ in range(3)]
    children[2].exit(2)
    children[1].exit(1)
    assert task.waitid(P_ALL, 0, WEXITED) == Waited(children[1].pid, os.CLD_EXITED, 1)
    assert task.waitid(P_ALL, 0, WEXITED) == Waited(children[2].pid, os.CLD_EXITED, 2)
    assert task.waitid(P_ALL, 0, WEXITED | WNOHANG) is None
