"""The rules of docs/reference/model-rules.md on descriptors and the files behind them."""

import errno
import fcntl
import os
import select

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

F_DUPFD_QUERY, F_CREATED_QUERY = 1027, 1028
RDWR_NEW = os.O_RDWR | os.O_CREAT


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn(rlimit_nofile=16)


def test_rule_22_close_on_exec_belongs_to_the_descriptor(task: Task) -> None:
    assert task.open("/a", RDWR_NEW | os.O_CLOEXEC) == 0
    assert task.dup(0) == 1
    assert task.fcntl(1, fcntl.F_DUPFD_CLOEXEC) == 2
    assert task.dup2(2, 3) == 3
    assert task.dup3(1, 4, os.O_CLOEXEC) == 4
    assert [entry.cloexec for entry in task.table().values()] == [True, False, True, False, True]


def test_rule_23_f_setfd_takes_one_bit_and_leaves_the_others_out(task: Task) -> None:
    task.open("/a", RDWR_NEW)
    assert task.fcntl(0, fcntl.F_SETFD, 2) == 0
    assert task.fcntl(0, fcntl.F_GETFD) == 0
    task.fcntl(0, fcntl.F_SETFD, 3)
    assert task.fcntl(0, fcntl.F_GETFD) == 1


def test_rule_24_the_offset_belongs_to_the_file(task: Task) -> None:
    task.open("/a", RDWR_NEW)
    task.write(0, b"abcdef")
    task.open("/a")
    task.dup(0)
    assert task.lseek(0, 2) == 2
    assert task.read(2, 2) == b"cd"
    assert task.lseek(0, 0, os.SEEK_CUR) == 4
    assert task.lseek(1, 0, os.SEEK_CUR) == 0


def test_rule_25_status_flags_belong_to_the_file(task: Task) -> None:
    task.open("/a", RDWR_NEW)
    task.dup(0)
    task.open("/a", os.O_RDWR)
    task.fcntl(0, fcntl.F_SETFL, os.O_APPEND)
    assert task.fcntl(1, fcntl.F_GETFL) & os.O_APPEND
    assert not task.fcntl(2, fcntl.F_GETFL) & os.O_APPEND


def test_rule_26_f_setfl_changes_neither_access_mode_nor_what_only_open_heeds(task: Task) -> None:
    task.open("/a", os.O_RDONLY | os.O_CREAT)
    before = task.fcntl(0, fcntl.F_GETFL)
    task.fcntl(0, fcntl.F_SETFL, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK)
    assert task.fcntl(0, fcntl.F_GETFL) == before | os.O_NONBLOCK
    with failing(errno.EBADF):
        task.write(0, b"x")


def test_rule_27_what_appends_writes_at_the_end_wherever_the_offset_was(task: Task) -> None:
    task.open("/a", RDWR_NEW | os.O_APPEND)
    task.write(0, b"abc")
    task.lseek(0, 0)
    task.write(0, b"d")
    assert task.lseek(0, 0, os.SEEK_CUR) == 4
    task.lseek(0, 0)
    assert task.read(0, 9) == b"abcd"


def test_rule_28_f_dupfd_query_tells_whether_two_descriptors_are_of_one_file(task: Task) -> None:
    task.open("/a", RDWR_NEW)
    task.dup(0)
    task.open("/a")
    assert task.fcntl(0, F_DUPFD_QUERY, 1) == 1
    assert task.fcntl(0, F_DUPFD_QUERY, 2) == 0
    for first, second in ((0, 9), (9, 0)):
        with failing(errno.EBADF):
            task.fcntl(first, F_DUPFD_QUERY, second)


def test_rule_29_f_created_query_tells_whether_this_open_made_it(task: Task) -> None:
    task.open("/a", RDWR_NEW)
    task.open("/a", RDWR_NEW)
    task.pipe2()
    assert [task.fcntl(number, F_CREATED_QUERY) for number in range(4)] == [1, 0, 0, 0]


def test_rule_30_o_path_gives_a_descriptor_that_can_be_kept_and_copied_but_not_used(
    task: Task,
) -> None:
    task.open("/a", RDWR_NEW)
    task.open("/a", os.O_PATH)
    for use in (lambda: task.read(1, 1), lambda: task.fcntl(1, fcntl.F_SETFL, 0)):
        with failing(errno.EBADF):
            use()
    assert task.fcntl(1, fcntl.F_GETFL) & os.O_PATH
    assert task.fcntl(1, fcntl.F_SETFD, 1) == 0
    assert task.dup(1) == 2
    assert task.fcntl(2, F_DUPFD_QUERY, 1) == 1


def test_rule_31_poll_says_pollnval_of_a_bad_number_and_nothing_of_a_negative_one(
    task: Task,
) -> None:
    assert task.poll(3) == select.POLLNVAL
    assert task.poll(-1) == 0


def test_rule_32_a_file_lives_until_its_last_descriptor_is_closed(task: Task) -> None:
    reader, writer = task.pipe2(os.O_NONBLOCK)
    copy = task.dup(writer)
    task.close(writer)
    with failing(errno.EAGAIN):
        task.read(reader, 1)
    task.close(copy)
    assert task.read(reader, 1) == b""


def test_rule_33_a_call_that_waits_keeps_its_file_whatever_its_number_becomes(task: Task) -> None:
    reader, writer = task.pipe2()
    other = task.clone(0x400)
    call = other.begin("read", reader, 9)
    assert not call.done
    task.close(reader)
    task.eventfd2()
    task.write(writer, b"still read")
    assert call.result() == b"still rea"


def test_rule_34_an_epoll_registration_is_of_number_and_file_and_outlives_the_number(
    task: Task,
) -> None:
    epoll = task.epoll_create1()
    reader, writer = task.pipe2()
    task.epoll_ctl(epoll, 1, reader, select.EPOLLIN, 7)
    copy = task.dup(reader)
    task.close(reader)
    task.write(writer, b"x")
    assert task.epoll_wait(epoll) == [(7, select.EPOLLIN)]
    with failing(errno.EBADF):
        task.epoll_ctl(epoll, 2, reader)
    task.close(copy)
    assert task.epoll_wait(epoll) == []
