"""Tasks: which of them share what, how they end, and calls that wait."""

import errno
import os
import re
from pathlib import Path
from typing import Any

import pytest

from fdproof.model import Blocked, Entry, Kernel, Misuse, Task
from fdproof.model._file import File

CLONE_VM, CLONE_FILES, CLONE_SIGHAND, CLONE_PIDFD, CLONE_THREAD = (
    0x100,
    0x400,
    0x800,
    0x1000,
    0x10000,
)
A_THREAD = CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD


@pytest.fixture
def task() -> Task:
    return Kernel().spawn()


def number_of(call: Any, *arguments: Any) -> int | None:
    """The errno of a call, or None if it succeeds."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


# -- sharing, on both subjects


def test_threads_share_the_table_and_processes_copy_it(kernel: Any) -> None:
    task = kernel.spawn()
    number = task.eventfd2()
    thread, child = task.clone(A_THREAD), task.fork()

    thread.close(number)

    assert number_of(task.dup, number) == errno.EBADF
    assert child.dup(number) == number + 1


def test_a_process_may_share_the_table_and_stop_doing_so(kernel: Any) -> None:
    task = kernel.spawn()
    child = task.clone(CLONE_FILES)
    number = task.eventfd2()
    assert child.dup(number) == number + 1

    child.unshare(CLONE_FILES)
    child.close(number)

    assert number_of(child.dup, number) == errno.EBADF
    assert number_of(task.dup, number) is None


def test_an_exec_unshares_before_it_closes(kernel: Any) -> None:
    task = kernel.spawn()
    marked, kept = task.eventfd2(flags=os.O_CLOEXEC), task.eventfd2()
    child = task.clone(CLONE_FILES)

    child.execve()

    assert number_of(child.fcntl, marked, 1) == errno.EBADF
    assert child.fcntl(kept, 1) == 0
    assert task.fcntl(marked, 1) == 1
    assert child.eventfd2() == marked


def test_copies_share_offset_and_status_flags(kernel: Any) -> None:
    task = kernel.spawn()
    number = task.open("f", os.O_RDWR | os.O_CREAT)
    child = task.fork()
    task.write(number, b"12345")
    child.fcntl(number, 4, os.O_APPEND)

    assert child.lseek(number, 0, os.SEEK_CUR) == 5
    assert task.fcntl(number, 3) & os.O_APPEND


def test_the_limit_is_the_process_s_and_the_table_may_be_another_s(kernel: Any) -> None:
    task = kernel.spawn(rlimit_nofile=8)
    child, thread = task.clone(CLONE_FILES), task.clone(A_THREAD)
    thread.setrlimit(2)
    task.eventfd2()
    task.eventfd2()

    assert number_of(task.eventfd2) == number_of(thread.eventfd2) == errno.EMFILE
    assert child.eventfd2() == 2
    assert task.dup2(2, 1) == 1
    assert number_of(task.dup2, 1, 2) == errno.EBADF


@pytest.mark.parametrize("flags", [CLONE_THREAD, CLONE_THREAD | CLONE_VM, CLONE_SIGHAND])
def test_a_clone_asks_for_all_that_belongs_together(kernel: Any, flags: int) -> None:
    assert number_of(kernel.spawn().clone, flags) == errno.EINVAL


def test_close_range_unshares_a_table_that_is_shared(kernel: Any) -> None:
    task = kernel.spawn()
    for _ in range(5):
        task.eventfd2()
    child = task.clone(CLONE_FILES)

    child.close_range(1, 3, 2)
    assert [number_of(child.fcntl, number, 1) for number in range(5)] == [None, 9, 9, 9, None]
    assert [number_of(task.fcntl, number, 1) for number in range(5)] == [None] * 5
    again = task.clone(CLONE_FILES)
    again.close_range(2, 2**32 - 1, 6)
    assert [again.fcntl(number, 1) for number in range(5)] == [0, 0, 1, 1, 1]
    assert [task.fcntl(number, 1) for number in range(5)] == [0] * 5


@pytest.mark.parametrize(
    ("shared", "allowed"),
    [
        (A_THREAD, []),
        (CLONE_VM | CLONE_SIGHAND, [CLONE_THREAD]),
        (CLONE_VM, [CLONE_THREAD, CLONE_SIGHAND]),
        (0, [CLONE_THREAD, CLONE_SIGHAND, CLONE_VM]),
    ],
)
def test_only_what_is_not_shared_can_be_unshared(
    kernel: Any, shared: int, allowed: list[int]
) -> None:
    task = kernel.spawn()
    other = task.clone(shared)

    flags = [CLONE_THREAD, CLONE_SIGHAND, CLONE_VM]
    for one in (task, other):
        assert [flag for flag in flags if number_of(one.unshare, flag) is None] == allowed
    other.execve()
    assert [flag for flag in flags if number_of(other.unshare, flag) is None] == flags


def test_memory_is_shared_until_a_process_ends_and_handlers_until_it_is_reaped(kernel: Any) -> None:
    task = kernel.spawn()
    memory, handlers = task.clone(CLONE_VM), task.clone(CLONE_VM | CLONE_SIGHAND)

    memory.exit()
    assert number_of(task.unshare, CLONE_VM) == errno.EINVAL
    handlers.exit()
    assert number_of(task.unshare, CLONE_VM) == errno.EINVAL
    task.waitid(os.P_PID, handlers.pid, os.WEXITED)
    assert number_of(task.unshare, CLONE_VM) is None


# -- the model's own


def test_an_exec_that_cannot_copy_its_table_kills_the_process() -> None:
    kernel = Kernel(nr_open=1024)
    parent = kernel.spawn(rlimit_nofile=1024)
    parent.eventfd2()
    parent.dup2(0, 1000)
    child = parent.clone(CLONE_FILES)
    kernel.nr_open = 64

    child.execve()

    assert child.ended
    assert child.process.status == 11
    assert list(parent.table()) == [0, 1000]


def test_nr_open_is_the_bound_of_every_table() -> None:
    kernel = Kernel(nr_open=128)
    task = kernel.spawn(rlimit_nofile=128)
    task.eventfd2()

    assert task.dup2(0, 127) == 127
    assert number_of(task.setrlimit, 129, 129) == errno.EPERM
    assert number_of(task.dup2, 0, 128) == errno.EBADF
    assert number_of(task.fcntl, 0, 0, 128) == errno.EINVAL


def test_a_table_above_a_lowered_nr_open_cannot_be_copied() -> None:
    kernel = Kernel(nr_open=1024)
    task = kernel.spawn(rlimit_nofile=1024)
    task.eventfd2()
    task.dup2(0, 1000)
    sharing = task.clone(CLONE_FILES)
    kernel.nr_open = 64

    for call in (
        task.fork,
        lambda: sharing.unshare(CLONE_FILES),
        lambda: sharing.close_range(0, 5, 2),
        lambda: sharing.close_range(0, 2000, 6),
    ):
        assert number_of(call) == errno.EMFILE
    assert len(kernel.tables) == 1
    assert [file.references for file in kernel.files()] == [2]
    # What is to be closed anyway is not copied.
    sharing.close_range(64, 2000, 2)
    assert list(sharing.table()) == [0]
    assert list(task.table()) == [0, 1000]


def test_only_root_may_have_more_files_than_file_max() -> None:
    kernel = Kernel(file_max=3)
    root, user = kernel.spawn(), kernel.spawn(uid=5)
    reading, _ = user.pipe2()

    assert number_of(user.pipe2) == errno.ENFILE
    assert len(kernel.files()) == 2, "the first end was given back"
    assert user.files.reserved() == []
    user.eventfd2()
    assert number_of(user.open, "/none/none") == errno.ENFILE
    assert user.dup(reading) == 3
    assert root.eventfd2() == 0


def test_the_last_user_closes_everything_in_ascending_order() -> None:
    kernel = Kernel()
    task = kernel.spawn()
    closed: list[int] = []

    class Noting(File):
        def release(self) -> None:
            closed.append(self.serial)

    inside = task.inside
    for _ in range(4):
        inside.fd_add(0, lambda: _owned(inside, Noting(kernel, os.O_RDWR)))
    thread = task.clone(A_THREAD)
    task.exit()
    assert closed == []

    thread.exit()

    assert closed == [1, 2, 3, 4]
    assert not kernel.files()
    assert not kernel.tables


def _owned(inside: Any, file: File) -> File:
    inside._references[file] += 1
    return file


def test_an_exec_ends_the_other_threads_and_takes_the_process_s_number() -> None:
    kernel = Kernel()
    task = kernel.spawn()
    thread = task.clone(A_THREAD)
    assert thread.pid != task.pid == thread.getpid()

    thread.execve()

    assert task.ended
    assert thread.pid == thread.getpid()
    assert kernel.tasks == {thread.pid: thread}
    with pytest.raises(RuntimeError, match="task 1 has ended"):
        task.getpid()


def test_a_process_ends_with_its_last_thread_and_has_that_one_s_status() -> None:
    kernel = Kernel()
    parent = kernel.spawn()
    child = parent.fork()
    thread = child.clone(A_THREAD)

    child.exit(7)
    assert not child.process.is_zombie
    thread.exit(9)

    assert child.process.is_zombie
    assert child.process.status == 9 << 8
    parent.exit()
    assert child.process.reaped, "by init, who gets the children of the dead"
    assert not kernel.processes


def test_namespaces_are_not_modelled_and_say_so(task: Task) -> None:
    with pytest.raises(NotImplementedError, match="no namespaces"):
        task.unshare(0x20000)
    with pytest.raises(NotImplementedError, match="does not know 0x20000"):
        task.clone(0x20000)
    assert number_of(task.unshare, 1) == errno.EINVAL


def test_a_table_shows_which_descriptors_have_the_same_file(task: Task) -> None:
    task.eventfd2(flags=os.O_CLOEXEC)
    task.dup(0)
    task.eventfd2()

    assert task.table() == {0: Entry(1, True), 1: Entry(1, False), 2: Entry(2, False)}


# -- calls that wait


def test_a_call_that_would_wait_raises_and_has_changed_nothing(task: Task) -> None:
    reading, _ = task.pipe2()
    before = [file.references for file in task.kernel.files()]

    with pytest.raises(Blocked, match="begin"):
        task.read(reading, 1)

    assert [file.references for file in task.kernel.files()] == before
    assert task.kernel.waiting == []


def test_a_waiting_call_goes_on_when_another_task_makes_it_possible(task: Task) -> None:
    reading, writing = task.pipe2()
    child = task.fork()

    pending = child.begin("read", reading, 10)
    assert not pending.done
    with pytest.raises(Blocked):
        pending.result()
    task.write(writing, b"data")

    assert pending.done
    assert pending.result() == b"data"
    assert task.kernel.waiting == []


def test_waiting_calls_are_served_in_the_order_of_their_beginning(task: Task) -> None:
    reading, writing = task.pipe2()
    children = [task.fork() for _ in range(3)]
    calls = [child.begin("read", reading, 2) for child in children]

    task.write(writing, b"aabb")

    assert [call.done for call in calls] == [True, True, False]
    assert [call.result() for call in calls[:2]] == [b"aa", b"bb"]


def test_a_waiting_call_keeps_its_file_whatever_becomes_of_the_number(task: Task) -> None:
    reading, writing = task.pipe2()
    thread = task.clone(A_THREAD)
    pending = thread.begin("read", reading, 10)

    task.close(reading)
    assert task.eventfd2(5) == reading
    assert task.poll(writing) == 0x104
    task.write(writing, b"late")

    assert pending.result() == b"late"
    assert task.poll(writing) == 0x10C


def test_a_call_begun_may_return_or_fail_at_once(task: Task) -> None:
    assert task.begin("eventfd2", 3, flags=os.O_CLOEXEC).result() == 0
    failed = task.begin("close", 7)
    assert failed.done
    with pytest.raises(OSError, match="Bad file descriptor"):
        failed.result()


def test_only_system_calls_are_begun(task: Task) -> None:
    with pytest.raises(ValueError, match="call: 'table' is no system call of the model"):
        task.begin("table")


def test_limits_that_cannot_be_are_refused() -> None:
    kernel = Kernel(nr_open=64)
    assert kernel.spawn().rlimit_nofile == 64
    for limit in (-1, 65):
        with pytest.raises(ValueError, match=f"rlimit_nofile: {limit} is not from 0 to nr_open"):
            kernel.spawn(rlimit_nofile=limit)
    with pytest.raises(ValueError, match="nr_open: 63 is below 64"):
        kernel.nr_open = 63
    with pytest.raises(ValueError, match="nr_open: 0 is below 64"):
        Kernel(nr_open=0)
    assert kernel.nr_open == 64


def test_a_task_makes_one_call_at_a_time(task: Task) -> None:
    reading, writing = task.pipe2()
    task.begin("read", reading, 1)

    for call in (lambda: task.dup(0), lambda: task.begin("dup", 0)):
        with pytest.raises(RuntimeError, match="<read of task 1> has not returned"):
            call()
    other = task.kernel.spawn()
    assert number_of(other.close, writing) == errno.EBADF


def test_a_waiting_call_ends_with_its_task(task: Task) -> None:
    reading, _writing = task.pipe2()
    child = task.fork()
    child.begin("read", reading, 1)
    assert ("<read of task 2>", task.files.lookup(reading)) in list(task.kernel.holders())

    child.end(9)

    assert task.kernel.waiting == []
    assert [file.references for file in task.kernel.files()] == [1, 1]


def test_a_write_that_does_not_fit_waits_as_a_whole(task: Task) -> None:
    reading, writing = task.pipe2()
    child = task.fork()
    task.write(writing, bytes(60000))

    pending = child.begin("write", writing, bytes(10000))
    assert not pending.done
    task.read(reading, 20000)

    assert pending.result() == 10000


def test_every_reference_has_a_holder(task: Task) -> None:
    reading, _ = task.pipe2()
    task.dup(reading)

    held = [file for _, file in task.kernel.holders()]

    assert {file: held.count(file) for file in held} == {
        file: file.references for file in task.kernel.files()
    }


def test_a_fault_is_asked_for_each_step_that_can_fail(task: Task) -> None:
    steps: list[tuple[str, str]] = []

    def fault(step: str, number: int) -> bool:
        steps.append((step, errno.errorcode[number]))
        return False

    task.kernel.fault = fault
    task.open("f", os.O_CREAT)
    task.dup2(0, 100)
    task.fork()

    assert steps == [
        ("get_unused_fd_flags", "EMFILE"),
        ("alloc_empty_file", "ENFILE"),
        ("expand_fdtable", "ENOMEM"),
        ("copy_process", "ENOMEM"),
        ("dup_fd", "ENOMEM"),
        ("expand_fdtable", "ENOMEM"),
    ]


@pytest.mark.parametrize("step", range(5))
def test_a_pipe_is_made_whole_or_not_at_all(task: Task, step: int) -> None:
    left = iter([False] * step + [True])
    task.kernel.fault = lambda step, number: next(left)

    with pytest.raises(OSError, match=r"^\[Errno"):
        task.pipe2()

    assert not task.table()
    assert not task.files.reserved()
    assert not task.kernel.files()


def test_the_reference_lists_every_step_that_can_fail() -> None:
    root = Path(__file__).parents[2]
    asked = re.compile(r'\.fallible\(\s*"(\w+)", errno\.(\w+)\)')
    page = re.compile(r"^\| `(\w+)` \| `(E\w+)` \|", re.MULTILINE)

    found = {
        step
        for path in (root / "src/fdproof/model").glob("*.py")
        for step in asked.findall(path.read_text())
    }

    assert found == set(page.findall((root / "docs/reference/model.md").read_text()))


def test_misuse_cannot_be_had_by_system_calls(task: Task) -> None:
    """It is no OSError, so that no program takes it for one."""
    assert not issubclass(Misuse, OSError)
    assert not issubclass(Blocked, OSError)
