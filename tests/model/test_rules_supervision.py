"""The rules of docs/reference/model-rules.md on the seccomp notifier and on rings."""

import errno
import os
from typing import Any

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

SETFD, SEND, CONTINUE = 1, 2, 1


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A supervisor with a listener as 0 and a file as 1."""
    task = kernel.spawn(rlimit_nofile=16)
    task.seccomp(["dup"])
    task.eventfd2()
    return task


@pytest.fixture
def target(task: Task) -> Task:
    """Who has the filter; its table is a copy of the supervisor's, without the listener."""
    target = task.fork()
    target.close(0)
    return target


@pytest.fixture
def call(target: Task) -> Any:
    """A call that the filter has stopped."""
    return target.begin("dup", 1)


def test_rule_75_a_listener_is_close_on_exec_and_there_is_one_a_chain(task: Task) -> None:
    assert task.table()[0].cloexec
    with failing(errno.EBUSY):
        task.seccomp(["pipe2"])
    assert sorted(task.table()) == [0, 1]


def test_rule_76_a_notification_is_answered_after_it_was_received_and_once(
    task: Task, call: Any
) -> None:
    with failing(errno.ENOENT):
        task.notif_send(0, 0)
    notification = task.notif_recv(0)
    assert notification.call == "dup"
    task.notif_id_valid(0, notification.id)
    assert not call.done
    task.notif_send(0, notification.id, value=77)
    assert call.result() == 77
    with failing(errno.ENOENT):
        task.notif_send(0, notification.id)
    with failing(errno.ENOENT):
        task.notif_id_valid(0, notification.id)


def test_rule_77_an_answer_is_a_value_an_errno_or_the_call_itself(task: Task, target: Task) -> None:
    failed = target.begin("dup", 1)
    id = task.notif_recv(0).id
    with failing(errno.EINVAL):
        task.notif_send(0, id, value=1, flags=CONTINUE)
    with failing(errno.EINVAL):
        task.notif_send(0, id, flags=2)
    task.notif_send(0, id, error=errno.EDOM)
    with failing(errno.EDOM):
        failed.result()
    went_on = target.begin("dup", 1)
    task.notif_send(0, task.notif_recv(0).id, flags=CONTINUE)
    assert went_on.result() == 0


def test_rule_78_addfd_gives_the_target_its_lowest_free_number(
    task: Task, target: Task, call: Any
) -> None:
    id = task.notif_recv(0).id
    assert task.notif_addfd(0, id, 1) == 0
    assert task.notif_addfd(0, id, 1, newfd_flags=os.O_CLOEXEC) == 2
    assert not call.done
    task.notif_send(0, id, value=0)
    call.result()
    table = target.table()
    assert {number: entry.cloexec for number, entry in table.items()} == {
        0: False,
        1: False,
        2: True,
    }
    assert table[0].file == task.table()[1].file


def test_rule_79_addfd_at_a_number_replaces_what_the_target_has_there(
    task: Task, target: Task, call: Any
) -> None:
    task.memfd_create()
    id = task.notif_recv(0).id
    assert task.notif_addfd(0, id, 2, flags=SETFD, newfd=1) == 1
    with failing(errno.EBADF):
        task.notif_addfd(0, id, 2, flags=SETFD, newfd=16)
    task.notif_send(0, id)
    call.result()
    assert target.table()[1].file == task.table()[2].file


def test_rule_80_with_send_the_number_is_the_answer(task: Task, call: Any) -> None:
    id = task.notif_recv(0).id
    assert task.notif_addfd(0, id, 1, flags=SEND) == 0
    assert call.result() == 0
    with failing(errno.ENOENT):
        task.notif_send(0, id)


def test_rule_81_the_targets_own_limit_counts_and_a_call_that_got_nothing_still_waits(
    task: Task, target: Task
) -> None:
    target.setrlimit(0)
    call = target.begin("dup", 1)
    id = task.notif_recv(0).id
    for flags in (0, SEND):
        with failing(errno.EMFILE):
            task.notif_addfd(0, id, 1, flags=flags)
    task.notif_send(0, id, error=errno.EMFILE)
    with failing(errno.EMFILE):
        call.result()


def test_rule_82_addfd_checks_flags_then_the_file_then_the_notification(
    task: Task, call: Any
) -> None:
    path = task.open("/", os.O_PATH)
    for options in ({"flags": 4}, {"newfd": 5}, {"newfd_flags": os.O_NONBLOCK}):
        with failing(errno.EINVAL):
            task.notif_addfd(0, 0, 99, **options)
    for number in (99, path):
        with failing(errno.EBADF):
            task.notif_addfd(0, 0, number)
    with failing(errno.ENOENT):
        task.notif_addfd(0, 0, 1)


def test_rule_83_without_its_listener_a_stopped_call_is_enosys(task: Task, call: Any) -> None:
    task.close(0)
    with failing(errno.ENOSYS):
        call.result()


def test_rule_84_a_listener_whose_filter_nobody_has_any_more_hangs_up(kernel: Kernel) -> None:
    task = kernel.spawn()
    child = task.clone(0x400)
    child.seccomp(["dup"])
    child.exit()
    assert task.poll(0) & 0x10
    with failing(errno.ENOENT):
        task.notif_recv(0)


def test_rule_85_a_fixed_file_of_a_ring_has_no_number_until_it_is_installed(
    kernel: Kernel,
) -> None:
    task = kernel.spawn()
    reader, writer = task.pipe2(os.O_NONBLOCK)
    ring = task.io_uring_setup(1)
    task.io_uring_register_files(ring, [-1, writer])
    task.close(writer)
    with failing(errno.EAGAIN):
        task.read(reader, 1)
    assert task.io_uring_install(ring, 1) == writer
    assert task.table()[writer].cloexec
    assert task.io_uring_install(ring, 1, 1) == 3
    assert not task.table()[3].cloexec
    with failing(errno.EBADF):
        task.io_uring_install(ring, 0)
