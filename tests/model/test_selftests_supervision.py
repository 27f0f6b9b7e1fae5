"""What the kernel's own tests ask of the seccomp notifier, asked anew of both subjects."""

import errno
import os
import select
import signal

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import eventually, failing

SETFD, SEND, CONTINUE = 1, 2, 1
A_THREAD = 0x100 | 0x400 | 0x800 | 0x10000


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A supervisor with a listener as 0 and a file as 1."""
    task = kernel.spawn(rlimit_nofile=32)
    task.seccomp(["dup"])
    task.memfd_create()
    return task


@pytest.fixture
def target(task: Task) -> Task:
    """Who has the filter, and 1 of the supervisor's descriptors."""
    target = task.fork()
    target.close(0)
    return target


def test_calls_are_answered_one_after_the_other(task: Task, target: Task) -> None:
    """user_notification_basic."""
    call = target.begin("dup", 1)
    eventually(lambda: task.poll(0) == select.POLLIN | select.POLLRDNORM)
    first = task.notif_recv(0)
    assert (first.pid, first.call) == (target.pid, "dup")
    assert task.poll(0) == select.POLLOUT | select.POLLWRNORM
    task.notif_send(0, first.id, value=12)
    assert call.result() == 12
    call = target.begin("dup", 1)
    second = task.notif_recv(0)
    assert second.id == first.id + 1
    task.notif_send(0, second.id, error=errno.ENETDOWN)
    with failing(errno.ENETDOWN):
        call.result()


def test_who_was_killed_in_the_middle_is_not_answered(task: Task, target: Task) -> None:
    """user_notification_kill_in_middle."""
    target.begin("dup", 1)
    id = task.notif_recv(0).id
    task.notif_id_valid(0, id)
    task.kill(target.pid, signal.SIGKILL)
    task.waitid(os.P_PID, target.pid, os.WEXITED)
    with failing(errno.ENOENT):
        task.notif_id_valid(0, id)
    with failing(errno.ENOENT):
        task.notif_send(0, id)


def test_a_closed_listener_ends_the_calls_that_wait_and_those_to_come(
    task: Task, target: Task
) -> None:
    """user_notification_closed_listener."""
    call = target.begin("dup", 1)
    task.close(0)
    with failing(errno.ENOSYS):
        call.result()
    with failing(errno.ENOSYS):
        target.begin("dup", 1).result()


def test_the_kernel_goes_on_with_the_call_if_it_is_told_to(task: Task, target: Task) -> None:
    """user_notification_continue."""
    call = target.begin("dup", 1)
    id = task.notif_recv(0).id
    for answer in ({"value": 1}, {"error": 1}):
        with failing(errno.EINVAL):
            task.notif_send(0, id, flags=CONTINUE, **answer)
    task.notif_send(0, id, flags=CONTINUE)
    assert call.result() == 0


def test_a_listener_hangs_up_when_nobody_has_the_filter(kernel: Kernel) -> None:
    """user_notification_filter_empty."""
    task = kernel.spawn()
    child = task.clone(0x400)
    assert child.seccomp(["dup"]) == 0
    assert task.poll(0) == 0
    child.exit()
    eventually(lambda: task.poll(0) == select.POLLHUP)
    with failing(errno.ENOENT):
        task.notif_recv(0)


def test_a_listener_hangs_up_when_the_last_thread_has_gone(kernel: Kernel) -> None:
    """user_notification_filter_empty_threaded."""
    task = kernel.spawn()
    child = task.clone(0x400)
    child.seccomp(["dup"])
    thread = child.clone(A_THREAD)
    child.exit()
    assert task.poll(0) == 0
    thread.exit()
    eventually(lambda: task.poll(0) == select.POLLHUP)


def test_files_are_added_in_all_the_ways(task: Task, target: Task) -> None:
    """user_notification_addfd."""
    target.dup2(1, 3)
    call = target.begin("dup", 1)
    id = task.notif_recv(0).id
    for options in ({"newfd_flags": ~os.O_CLOEXEC & 0xFFFFFFFF}, {"flags": 0xFF}, {"newfd": 1}):
        with failing(errno.EINVAL):
            task.notif_addfd(0, id, 1, **options)
    assert task.notif_addfd(0, id, 1) == 0
    assert task.notif_addfd(0, id, 1) == 2
    assert task.notif_addfd(0, id, 1, flags=SETFD, newfd=31) == 31
    assert task.notif_addfd(0, id, 1, flags=SETFD, newfd=3, newfd_flags=os.O_CLOEXEC) == 3
    task.notif_send(0, id, value=0)
    assert call.result() == 0
    table = target.table()
    assert sorted(table) == [0, 1, 2, 3, 31]
    assert [number for number, entry in table.items() if entry.cloexec] == [3]
    assert table[31].file == task.table()[1].file
    call = target.begin("dup", 1)
    id = task.notif_recv(0).id
    assert task.notif_addfd(0, id, 1, flags=SEND) == 4
    assert call.result() == 4


def test_the_limit_of_the_target_is_what_counts(task: Task, target: Task) -> None:
    """user_notification_addfd_rlimit."""
    target.setrlimit(0)
    call = target.begin("dup", 1)
    id = task.notif_recv(0).id
    for flags in (0, SEND):
        with failing(errno.EMFILE):
            task.notif_addfd(0, id, 1, flags=flags)
    for flags in (SETFD, SETFD | SEND):
        with failing(errno.EBADF):
            task.notif_addfd(0, id, 1, flags=flags, newfd=16)
    task.notif_send(0, id, value=0)
    assert call.result() == 0


def test_the_listener_may_be_asked_to_wake_in_step(task: Task, target: Task) -> None:
    """user_notification_sync."""
    with failing(errno.EINVAL):
        task.notif_set_flags(0, 0xFFFFFFFF)
    task.notif_set_flags(0, 1)
    call = target.begin("dup", 1)
    task.notif_send(0, task.notif_recv(0).id, value=3)
    assert call.result() == 3


def test_the_oldest_call_is_received_first(task: Task, target: Task) -> None:
    """user_notification_fifo."""
    targets = [target, *(target.fork() for _ in range(3))]
    calls = []
    for each in targets:
        calls.append(each.begin("dup", 1))
        # It has arrived when it waits.
        assert not calls[-1].done
    received = [task.notif_recv(0) for _ in targets]
    assert [each.pid for each in received] == [each.pid for each in targets]
    assert [each.id - received[0].id for each in received] == [0, 1, 2, 3]
    for place, notification in enumerate(received):
        task.notif_send(0, notification.id, value=place)
    assert [call.result() for call in calls] == [0, 1, 2, 3]
