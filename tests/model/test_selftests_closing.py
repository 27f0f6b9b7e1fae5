"""What the kernel's own tests and the Linux Test Project ask of close_range and unshare, asked anew."""

import errno
import os

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

UNSHARE, CLOEXEC = 2, 4
CLONE_FILES = 0x400
MOST = 2**32 - 1


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A task with the same file as 0 to 100."""
    task = kernel.spawn(rlimit_nofile=1000)
    task.open("/a", os.O_RDWR | os.O_CREAT)
    for _ in range(100):
        task.dup(0)
    return task


def opened(task: Task) -> list[int]:
    return sorted(task.table())


def marked(task: Task) -> list[int]:
    return [number for number, entry in task.table().items() if entry.cloexec]


def test_ranges_are_closed_from_the_middle_and_from_the_ends(task: Task) -> None:
    """close_range."""
    with failing(errno.EINVAL):
        task.close_range(0, 100, MOST)
    task.close_range(0, 50)
    assert opened(task) == list(range(51, 101))
    task.close_range(93, 99)
    assert opened(task) == [*range(51, 93), 100]
    task.close_range(100, 100)
    task.close_range(51, 51)
    assert opened(task) == list(range(52, 93))


def test_a_sharer_closes_in_a_table_of_its_own(task: Task) -> None:
    """close_range_unshare."""
    other = task.clone(CLONE_FILES)
    other.close_range(0, 50, UNSHARE)
    other.close_range(93, 99, UNSHARE)
    assert opened(other) == [*range(51, 93), 100]
    assert opened(task) == list(range(101))


def test_a_sharer_leaves_everything_above_a_number_behind(task: Task) -> None:
    """close_range_unshare_capped."""
    other = task.clone(CLONE_FILES)
    other.close_range(0, MOST, UNSHARE)
    assert opened(other) == []
    assert opened(task) == list(range(101))
    assert other.open("/a") == 0


def test_ranges_are_marked_and_only_then_closed_by_execve(task: Task) -> None:
    """close_range_cloexec."""
    task.close_range(0, 50, CLOEXEC)
    assert marked(task) == list(range(51))
    task.close_range(75, MOST, CLOEXEC)
    assert marked(task) == [*range(51), *range(75, 101)]
    task.execve()
    assert opened(task) == list(range(51, 75))


def test_a_sharer_marks_in_a_table_of_its_own(task: Task) -> None:
    """close_range_cloexec_unshare."""
    other = task.clone(CLONE_FILES)
    other.close_range(3, 50, CLOEXEC | UNSHARE)
    assert marked(other) == list(range(3, 51))
    assert marked(task) == []
    other.close(99)
    assert 99 in opened(task)


def test_marking_to_the_end_with_a_high_number_open_marks_that_too(task: Task) -> None:
    """close_range_cloexec_syzbot."""
    task.close_range(1, 100)
    task.dup2(0, 999)
    other = task.clone(CLONE_FILES)
    other.close_range(1, MOST, CLOEXEC)
    assert marked(other) == marked(task) == [999]
    assert other.dup(0) == 1
    assert marked(task) == [999]


def test_marking_and_unsharing_to_the_end_keeps_the_high_number(task: Task) -> None:
    """close_range_cloexec_unshare_syzbot."""
    task.close_range(1, 100)
    task.dup2(0, 999)
    other = task.clone(CLONE_FILES)
    other.close_range(1, MOST, CLOEXEC | UNSHARE)
    assert (marked(other), marked(task)) == ([999], [])
    assert opened(other) == opened(task) == [0, 999]


def test_unsharing_a_table_that_ends_in_a_full_word_leaves_a_bitmap_that_is_right(
    kernel: Kernel,
) -> None:
    """close_range_bitmap_corruption."""
    task = kernel.spawn(rlimit_nofile=1000)
    task.eventfd2()
    for number in range(1, 128):
        assert task.dup(0) == number
    other = task.clone(CLONE_FILES)
    other.close_range(64, MOST, UNSHARE)
    for number in range(64, 128):
        assert other.dup(0) == number
    assert other.dup(0) == 128


@pytest.mark.parametrize("flags", [8, 16, 4 | 8, 4 | 16])
def test_flags_that_came_after_6_18_are_refused(task: Task, flags: int) -> None:
    """close_range_except and close_range_cloexec_only, with their variants."""
    with failing(errno.EINVAL):
        task.close_range(3, 5, flags)
    assert opened(task) == list(range(101))


def test_all_flags_together_leave_the_sharer_alone(task: Task) -> None:
    """close_range01."""
    for flags in (0, UNSHARE, CLOEXEC, UNSHARE | CLOEXEC):
        other = task.fork()
        sharer = other.clone(CLONE_FILES)
        sharer.close_range(3, MOST, flags)
        gone = 101 if flags & CLOEXEC else 3
        assert opened(sharer) == list(range(gone))
        assert opened(other) == list(range(101 if flags & UNSHARE else gone))


def test_a_range_that_starts_far_beyond_the_table_is_empty(task: Task) -> None:
    """close_range02."""
    task.close_range(MOST, MOST)
    with failing(errno.EINVAL):
        task.close_range(MOST, 3)
    with failing(errno.EINVAL):
        task.close_range(3, MOST, 1 << 6)
    task.close_range(100, 100, CLOEXEC)
    assert marked(task) == [100]


def test_unshare_makes_the_table_private(task: Task) -> None:
    """unshare01."""
    other = task.clone(CLONE_FILES)
    other.unshare(CLONE_FILES)
    other.close(0)
    assert opened(task) == list(range(101))


def test_a_table_that_reaches_beyond_a_lowered_nr_open_cannot_be_copied() -> None:
    """unshare_EMFILE; on the model alone, since fs.nr_open is the whole machine's."""
    kernel = Kernel(nr_open=2048)
    task = kernel.spawn(rlimit_nofile=2048)
    task.eventfd2()
    task.dup2(0, 1100)
    other = task.clone(CLONE_FILES)
    kernel.nr_open = 1024
    with failing(errno.EMFILE):
        other.unshare(CLONE_FILES)
    with failing(errno.EMFILE):
        task.fork()
