"""The rules of docs/reference/model-rules.md on tables: numbers, limits, replacing, closing."""

import errno
import fcntl
import os

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

UNSHARE, CLOEXEC = 2, 4
CLONE_FILES = 0x400
FAR = 2**31 - 1


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A task with descriptors 0 to 3, of files of their own."""
    task = kernel.spawn(rlimit_nofile=8)
    for _ in range(4):
        task.eventfd2()
    return task


def test_rule_1_a_new_descriptor_gets_the_lowest_free_number(task: Task) -> None:
    assert task.dup(0) == 4
    task.close(1)
    task.close(3)
    assert (task.eventfd2(), task.dup(0), task.dup(0)) == (1, 3, 5)


def test_rule_2_what_dup2_fills_is_not_given_out_and_what_lies_below_is(task: Task) -> None:
    task.dup2(0, 6)
    task.close(2)
    assert [task.dup(0) for _ in range(4)] == [2, 4, 5, 7]


def test_rule_3_f_dupfd_takes_the_lowest_free_number_from_its_argument_on(task: Task) -> None:
    task.close(1)
    assert task.fcntl(0, fcntl.F_DUPFD, 2) == 4
    assert task.fcntl(0, fcntl.F_DUPFD, 2) == 5
    assert task.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 0) == 1
    assert task.dup(0) == 6


def test_rule_4_no_new_number_reaches_the_soft_limit_of_the_moment(task: Task) -> None:
    task.setrlimit(5)
    assert task.dup(0) == 4
    with failing(errno.EMFILE):
        task.dup(0)
    with failing(errno.EMFILE):
        task.pipe2()
    task.setrlimit(6)
    assert task.dup(0) == 5


def test_rule_5_a_lower_limit_closes_nothing(task: Task) -> None:
    task.setrlimit(2)
    assert sorted(task.table()) == [0, 1, 2, 3]
    task.close(3)
    with failing(errno.EMFILE):
        task.dup(2)


def test_rule_6_a_call_that_needs_two_numbers_takes_both_or_none(task: Task) -> None:
    task.setrlimit(5)
    for call in (task.pipe2, task.socketpair):
        with failing(errno.EMFILE):
            call()
    assert sorted(task.table()) == [0, 1, 2, 3]
    assert task.dup(0) == 4


def test_rule_7_dup2_of_a_number_to_itself_only_asks_whether_it_is_open(task: Task) -> None:
    task.fcntl(3, fcntl.F_SETFD, 1)
    task.setrlimit(2)
    assert task.dup2(3, 3) == 3
    assert task.table()[3].cloexec
    with failing(errno.EBADF):
        task.dup2(4, 4)


def test_rule_8_dup3_of_a_number_to_itself_is_einval_open_or_not(task: Task) -> None:
    for number in (0, 7, -1):
        with failing(errno.EINVAL):
            task.dup3(number, number)


def test_rule_9_dup3_knows_no_flag_but_o_cloexec(task: Task) -> None:
    for flags in (os.O_NONBLOCK, os.O_RDWR, os.O_CLOEXEC | os.O_RDWR):
        with failing(errno.EINVAL):
            task.dup3(99, 1, flags)
    assert task.dup3(0, 1, os.O_CLOEXEC) == 1


def test_rule_10_dup2_to_a_number_that_is_not_below_the_limit_is_ebadf_open_or_not(
    task: Task,
) -> None:
    task.setrlimit(3)
    for number in (3, 4, FAR, -1):
        with failing(errno.EBADF):
            task.dup2(0, number)
        with failing(errno.EBADF):
            task.dup3(0, number, os.O_CLOEXEC)
    assert sorted(task.table()) == [0, 1, 2, 3]


def test_rule_11_dup2_replaces_in_one_step_and_lets_go_of_what_was_there(task: Task) -> None:
    reader, writer = task.pipe2()
    assert task.dup2(0, writer) == writer
    assert task.read(reader, 1) == b""
    assert task.fcntl(writer, 1027, 0) == 1


def test_rule_12_dup2_from_a_bad_number_leaves_the_other_alone(task: Task) -> None:
    before = task.table()[1].file
    with failing(errno.EBADF):
        task.dup2(7, 1)
    assert task.table()[1].file == before


def test_rule_13_f_dupfd_looks_at_the_descriptor_then_at_the_limit_then_for_room(
    task: Task,
) -> None:
    with failing(errno.EBADF):
        task.fcntl(7, fcntl.F_DUPFD, 99)
    for lowest in (8, FAR, -1):
        with failing(errno.EINVAL):
            task.fcntl(0, fcntl.F_DUPFD, lowest)
    task.dup2(0, 7)
    with failing(errno.EMFILE):
        task.fcntl(0, fcntl.F_DUPFD, 7)


def test_rule_14_close_of_what_is_not_open_is_ebadf_and_so_is_a_second_close(task: Task) -> None:
    task.close(3)
    for number in (3, 7, -1, FAR):
        with failing(errno.EBADF):
            task.close(number)


def test_rule_15_close_range_does_not_mind_what_is_not_open(task: Task) -> None:
    task.close(2)
    task.close_range(1, FAR)
    assert sorted(task.table()) == [0]
    task.close_range(1, FAR)
    task.close_range(1000, 1000)


def test_rule_16_close_range_refuses_an_empty_range_and_unknown_flags(task: Task) -> None:
    with failing(errno.EINVAL):
        task.close_range(2, 1)
    for flags in (1, 1 << 31):
        with failing(errno.EINVAL):
            task.close_range(0, 3, flags)
    task.close_range(3, 3)
    assert sorted(task.table()) == [0, 1, 2]


def test_rule_17_close_range_can_mark_instead_of_close(task: Task) -> None:
    task.close_range(1, 2, CLOEXEC)
    assert [entry.cloexec for entry in task.table().values()] == [False, True, True, False]


def test_rule_18_a_mark_on_a_free_number_means_nothing_to_who_gets_it_next(task: Task) -> None:
    task.close_range(4, FAR, CLOEXEC)
    assert task.dup(0) == 4
    assert not task.table()[4].cloexec


def test_rule_19_close_range_with_unshare_leaves_a_shared_table_as_it_was(task: Task) -> None:
    other = task.clone(CLONE_FILES)
    other.close_range(1, FAR, UNSHARE)
    assert sorted(other.table()) == [0]
    assert sorted(task.table()) == [0, 1, 2, 3]
    other.dup(0)
    assert sorted(task.table()) == [0, 1, 2, 3]


def test_rule_20_close_range_with_unshare_works_in_place_where_nothing_is_shared(
    task: Task,
) -> None:
    task.close_range(2, 3, UNSHARE)
    assert sorted(task.table()) == [0, 1]
    assert task.dup(0) == 2


def test_rule_21_no_limit_goes_beyond_nr_open(task: Task) -> None:
    with failing(errno.EINVAL):
        task.setrlimit(9, 8)
    with failing(errno.EPERM):
        task.setrlimit(8, 2**40)
