"""What the Linux Test Project asks of dup, dup2, dup3 and fcntl, asked anew of both subjects."""

import errno
import fcntl
import os

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

F_DUPFD_QUERY, F_CREATED_QUERY = 1027, 1028
LIMIT = 10


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A task with a file open for reading and writing as 0."""
    task = kernel.spawn(rlimit_nofile=LIMIT)
    task.open("/a", os.O_RDWR | os.O_CREAT)
    return task


def test_dup_gives_another_descriptor_of_the_same_file(task: Task) -> None:
    """dup01."""
    assert task.dup(0) == 1
    assert task.fcntl(0, F_DUPFD_QUERY, 1) == 1


@pytest.mark.parametrize("number", [-1, 1500])
def test_dup_of_what_was_never_open_is_refused(task: Task, number: int) -> None:
    """dup02."""
    with failing(errno.EBADF):
        task.dup(number)


def test_dup_in_a_full_table_is_refused(task: Task) -> None:
    """dup03."""
    for expected in range(1, LIMIT):
        assert task.dup(0) == expected
    with failing(errno.EMFILE):
        task.dup(0)


def test_dup_works_on_both_ends_of_a_pipe(task: Task) -> None:
    """dup04."""
    for end in task.pipe2():
        assert task.fcntl(task.dup(end), F_DUPFD_QUERY, end) == 1


@pytest.mark.parametrize("access", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_a_duplicate_has_the_access_mode_of_the_original(task: Task, access: int) -> None:
    """dup07."""
    copy = task.dup(task.open("/a", access))
    assert task.fcntl(copy, fcntl.F_GETFL) & os.O_ACCMODE == access


@pytest.mark.parametrize(("old", "new"), [(LIMIT, 5), (-1, 5), (0, LIMIT), (0, -1)])
def test_dup2_refuses_numbers_outside_the_table(task: Task, old: int, new: int) -> None:
    """dup201."""
    with failing(errno.EBADF):
        task.dup2(old, new)


def test_dup2_keeps_the_access_mode(task: Task) -> None:
    """dup202, dup204."""
    for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        number = task.open("/a", access)
        task.dup2(number, 9)
        assert task.fcntl(9, fcntl.F_GETFL) == task.fcntl(number, fcntl.F_GETFL)


def test_dup2_closes_the_target_and_takes_close_on_exec_from_it(task: Task) -> None:
    """dup203."""
    task.open("/b", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    assert task.dup2(0, 1) == 1
    assert task.fcntl(1, F_DUPFD_QUERY, 0) == 1
    assert task.fcntl(1, fcntl.F_GETFD) == 0


def test_dup2_fills_the_table_up_to_the_limit(task: Task) -> None:
    """dup205."""
    for number in range(1, LIMIT):
        assert task.dup2(0, number) == number
    with failing(errno.EBADF):
        task.dup2(0, LIMIT)


def test_dup2_to_itself_changes_nothing(task: Task) -> None:
    """dup206."""
    assert task.dup2(0, 0) == 0
    assert sorted(task.table()) == [0]


def test_dup2_shares_the_offset(task: Task) -> None:
    """dup207."""
    task.write(0, b"abcdef")
    task.dup2(0, 4)
    task.lseek(0, 3)
    assert task.read(4, 2) == b"de"
    assert task.lseek(0, 0, os.SEEK_CUR) == 5


def test_dup3_sets_close_on_exec_where_asked(task: Task) -> None:
    """dup3_01."""
    task.dup3(0, 4, 0)
    assert task.fcntl(4, fcntl.F_GETFD) == 0
    task.dup3(0, 4, os.O_CLOEXEC)
    assert task.fcntl(4, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


@pytest.mark.parametrize(("new", "flags"), [(0, os.O_CLOEXEC), (0, 0), (4, -1)])
def test_dup3_refuses_equal_numbers_and_bad_flags(task: Task, new: int, flags: int) -> None:
    """dup3_02."""
    with failing(errno.EINVAL):
        task.dup3(0, new, flags)


def test_f_dupfd_gives_the_lowest_free_number_from_its_argument_on(task: Task) -> None:
    """fcntl02."""
    for lowest in (0, 1, 2, 3, 8):
        number = task.fcntl(0, fcntl.F_DUPFD, lowest)
        assert number == max(lowest, 1)
        task.close(number)


def test_f_setfd_sets_what_f_getfd_gets(task: Task) -> None:
    """fcntl03."""
    assert task.fcntl(0, fcntl.F_GETFD) == 0
    task.fcntl(0, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    assert task.fcntl(0, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


def test_f_getfl_gets_the_access_mode(task: Task) -> None:
    """fcntl04."""
    assert task.fcntl(0, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR


def test_f_setfl_sets_append_and_nonblock_and_takes_them_back(task: Task) -> None:
    """fcntl08."""
    before = task.fcntl(0, fcntl.F_GETFL)
    task.fcntl(0, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
    assert task.fcntl(0, fcntl.F_GETFL) == before | os.O_NONBLOCK | os.O_APPEND
    task.fcntl(0, fcntl.F_SETFL, 0)
    assert task.fcntl(0, fcntl.F_GETFL) == before


def test_f_dupfd_in_a_full_table_is_refused(task: Task) -> None:
    """fcntl12."""
    for _ in range(1, LIMIT):
        task.dup(0)
    with failing(errno.EMFILE):
        task.fcntl(0, fcntl.F_DUPFD, 1)


def test_fcntl_refuses_bad_descriptors_and_unknown_commands(task: Task) -> None:
    """fcntl13."""
    with failing(errno.EBADF):
        task.fcntl(9, fcntl.F_GETFD)
    with failing(errno.EINVAL):
        task.fcntl(0, 999)


def test_f_dupfd_cloexec_marks_what_it_makes(task: Task) -> None:
    """fcntl29."""
    number = task.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    assert (number, task.fcntl(number, fcntl.F_GETFD)) == (3, fcntl.FD_CLOEXEC)


def test_f_created_query_tells_the_creator_from_who_came_later(task: Task) -> None:
    """fcntl40, and fcntl_created of the kernel's own tests."""
    assert task.fcntl(0, F_CREATED_QUERY) == 1
    assert task.fcntl(task.open("/a"), F_CREATED_QUERY) == 0
    task.unlink("/a")
    created = task.open("/a", os.O_RDONLY | os.O_CREAT)
    assert task.fcntl(created, F_CREATED_QUERY) == 1
    assert task.fcntl(task.dup(created), F_CREATED_QUERY) == 1
