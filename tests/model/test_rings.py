"""io_uring's fixed files: a table of files without numbers, and the way back to a number."""

import errno
import os

import pytest

from fdproof.model import Kernel, Task
from tests.model.failing import eventually, failing

pytestmark = pytest.mark.requires_kernel("io_uring")
HUP = 0x10


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


@pytest.fixture
def ring(task: Task) -> int:
    return task.io_uring_setup(4)


def test_a_ring_is_close_on_exec_and_has_no_offset(task: Task, ring: int) -> None:
    assert task.table()[ring].cloexec
    assert task.fcntl(ring, 3) == os.O_RDWR
    with failing(errno.ESPIPE):
        task.lseek(ring, 0)
    for entries in (0, 32769):
        with failing(errno.EINVAL):
            task.io_uring_setup(entries)


def test_a_fixed_file_lives_without_a_number_and_gets_a_new_one(task: Task, ring: int) -> None:
    reading, writing = task.pipe2()
    task.io_uring_register_files(ring, [writing])
    task.close(writing)
    assert not task.poll(reading) & HUP
    installed = task.io_uring_install(ring, 0)
    assert installed == writing
    plain = task.io_uring_install(ring, 0, 1)
    table = task.table()
    assert table[installed].file == table[plain].file
    assert (table[installed].cloexec, table[plain].cloexec) == (True, False)
    task.write(plain, b"same")
    assert task.read(reading, 10) == b"same"


def test_the_files_go_with_the_ring(task: Task, ring: int) -> None:
    reading, writing = task.pipe2()
    task.io_uring_register_files(ring, [writing])
    task.close(writing)
    task.close(ring)
    assert task.read(reading, 1) == b""


def test_registering_is_all_or_nothing(task: Task, ring: int) -> None:
    reading, writing = task.pipe2()
    path = task.open("/", os.O_PATH)
    other = task.io_uring_setup(1)
    for numbers in ([writing, 99], [writing, path], [writing, other], [writing, ring], [-2]):
        with failing(errno.EBADF):
            task.io_uring_register_files(ring, numbers)
    with failing(errno.EINVAL):
        task.io_uring_register_files(ring, [])
    task.close(writing)
    assert task.read(reading, 1) == b""
    task.io_uring_register_files(ring, [reading, -1])
    for numbers in ([reading], []):
        with failing(errno.EBUSY):
            task.io_uring_register_files(ring, numbers)


def test_the_soft_limit_bounds_the_table_of_fixed_files(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=4)
    ring = task.io_uring_setup(4)
    for numbers in ([ring] * 5, [-1] * 5):
        with failing(errno.EMFILE):
            task.io_uring_register_files(ring, numbers)
    task.io_uring_register_files(ring, [-1] * 4)


def test_an_update_stops_at_a_bad_number_and_has_dropped_what_was_there(
    task: Task, ring: int
) -> None:
    reading, writing = task.pipe2()
    task.io_uring_register_files(ring, [writing, writing, reading])
    task.close(writing)
    assert task.io_uring_update(ring, 0, [reading, 99]) == 1
    assert task.read(reading, 1) == b""
    with failing(errno.EBADF):
        task.io_uring_update(ring, 0, [99])
    for index in (0, 1):
        with failing(errno.EBADF):
            task.io_uring_install(ring, index)
    assert task.io_uring_update(ring, 0, [reading, -2, -1]) == 3
    assert task.io_uring_install(ring, 0) > ring
    with failing(errno.EBADF):
        task.io_uring_install(ring, 2)


def test_updates_have_bounds(task: Task, ring: int) -> None:
    fd = task.eventfd2()
    with failing(errno.ENXIO):
        task.io_uring_update(ring, 0, [fd])
    task.io_uring_register_files(ring, [-1, -1])
    for offset, numbers in ((2, [fd]), (1, [fd, fd]), (0, []), (5, [])):
        with failing(errno.EINVAL):
            task.io_uring_update(ring, offset, numbers)
    task.io_uring_unregister_files(ring)
    with failing(errno.ENXIO):
        task.io_uring_unregister_files(ring)


def test_installing_has_its_errnos(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=2)
    ring, fd = task.io_uring_setup(1), task.eventfd2()
    task.io_uring_register_files(ring, [fd, -1])
    for number, index, flags, expected in (
        (99, 0, 0, errno.EBADF),
        (fd, 0, 0, errno.EOPNOTSUPP),
        (ring, 9, 2, errno.EINVAL),
        (ring, 9, 0, errno.EBADF),
        (ring, 1, 0, errno.EBADF),
        (ring, 0, 0, errno.EMFILE),
    ):
        with failing(expected):
            task.io_uring_install(number, index, flags)
    task.close(fd)
    assert task.io_uring_install(ring, 0) == fd


def test_there_is_no_ring_minus_one(task: Task) -> None:
    for call, arguments, number in (
        ("io_uring_register_files", ([0],), errno.EINVAL),
        ("io_uring_update", (0, [0]), errno.EINVAL),
        ("io_uring_unregister_files", (), errno.EINVAL),
        ("io_uring_install", (0,), errno.EBADF),
    ):
        with failing(number):
            getattr(task, call)(-1, *arguments)


def test_a_socket_in_a_ring_is_in_use(task: Task, ring: int) -> None:
    a, b = task.socketpair()
    task.io_uring_register_files(ring, [b])
    task.close(b)
    assert task.write(a, b"x") == 1
    task.close(ring)
    eventually(lambda: bool(task.poll(a) & HUP))
