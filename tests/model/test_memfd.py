"""memfd: memory behind a descriptor, and its seals."""

import errno
import os

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import failing

pytestmark = pytest.mark.requires_kernel("memfd")

ADD, GET = 1033, 1034
SEAL, SHRINK, GROW, WRITE, FUTURE_WRITE, EXEC = 1, 2, 4, 8, 16, 32
CLOEXEC, ALLOW_SEALING, NOEXEC_SEAL, EXECUTABLE = 1, 2, 8, 16


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


def test_memory_is_a_file_with_an_offset(task: Task) -> None:
    fd = task.memfd_create("m", CLOEXEC)
    assert task.table()[fd].cloexec
    assert task.fcntl(fd, 3) == os.O_RDWR | 0o100000
    assert task.write(fd, b"data") == 4
    assert task.read(fd, 4) == b""
    assert task.lseek(fd, 1) == 1
    assert task.read(fd, 9) == b"ata"
    copy = task.dup(fd)
    assert task.lseek(copy, 0, os.SEEK_CUR) == 4


@pytest.mark.parametrize("flags", [32, NOEXEC_SEAL | EXECUTABLE, 1 << 26])
def test_unknown_flags_and_contradictions_are_refused(task: Task, flags: int) -> None:
    with failing(errno.EINVAL):
        task.memfd_create("m", flags)


def test_a_name_has_at_most_249_bytes(task: Task) -> None:
    task.memfd_create("x" * 249)
    with failing(errno.EINVAL):
        task.memfd_create("x" * 250)


@pytest.mark.parametrize(
    ("flags", "seals"),
    [(0, SEAL), (ALLOW_SEALING, 0), (NOEXEC_SEAL, EXEC), (EXECUTABLE, SEAL)],
)
def test_the_seals_begin_as_the_flags_say(task: Task, flags: int, seals: int) -> None:
    assert task.fcntl(task.memfd_create("m", flags), GET) == seals


def test_what_may_not_be_sealed_cannot_be(task: Task) -> None:
    fd = task.memfd_create("m")
    with failing(errno.EPERM):
        task.fcntl(fd, ADD, WRITE)
    with failing(errno.EINVAL):
        task.fcntl(fd, ADD, 0x40)


def test_seals_add_up_until_they_are_sealed(task: Task) -> None:
    fd = task.memfd_create("m", ALLOW_SEALING)
    assert task.fcntl(fd, ADD, GROW) == 0
    assert task.fcntl(fd, ADD, SHRINK | SEAL) == 0
    assert task.fcntl(fd, GET) == GROW | SHRINK | SEAL
    with failing(errno.EPERM):
        task.fcntl(fd, ADD, WRITE)


def test_sealing_what_can_be_executed_seals_the_contents(task: Task) -> None:
    fd = task.memfd_create("m", ALLOW_SEALING)
    task.fcntl(fd, ADD, EXEC)
    assert task.fcntl(fd, GET) == EXEC | SHRINK | GROW | WRITE | FUTURE_WRITE


def test_sealed_memory_does_not_grow(task: Task) -> None:
    fd = task.memfd_create("m", ALLOW_SEALING)
    task.write(fd, b"abcd")
    task.fcntl(fd, ADD, GROW)
    with failing(errno.EPERM):
        task.write(fd, b"e")
    task.lseek(fd, 2)
    with failing(errno.EPERM):
        task.write(fd, b"xyz")
    assert task.write(fd, b"xy") == 2
    task.lseek(fd, 9)
    assert task.write(fd, b"") == 0


@pytest.mark.parametrize("seal", [WRITE, FUTURE_WRITE])
def test_sealed_memory_is_not_written(task: Task, seal: int) -> None:
    fd = task.memfd_create("m", ALLOW_SEALING)
    task.write(fd, b"abcd")
    task.fcntl(fd, ADD, seal)
    task.lseek(fd, 0)
    with failing(errno.EPERM):
        task.write(fd, b"x")
    assert task.write(fd, b"") == 0
    assert task.read(fd, 9) == b"abcd"


def test_nothing_else_has_seals(task: Task) -> None:
    reading, _ = task.pipe2()
    for fd in (reading, task.eventfd2()):
        with failing(errno.EINVAL):
            task.fcntl(fd, GET)
