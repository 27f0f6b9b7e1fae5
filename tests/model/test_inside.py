"""The kernel's inside functions: what they do, and the mistakes that they find."""

import errno
import os
from collections.abc import Callable

import pytest

from fdproof.model import File, Inside, Kernel, Misuse, Task


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn(rlimit_nofile=8)


@pytest.fixture
def inside(task: Task) -> Inside:
    return task.inside


def fails(step: str) -> Callable[[str, int], bool]:
    return lambda name, number: name == step


def nothing_is_left(task: Task) -> bool:
    return not task.table() and not task.files.reserved() and not task.kernel.files()


# -- the right ways


def test_reserve_build_copy_out_install(task: Task, inside: Inside) -> None:
    with inside.system_call():
        fd = inside.get_unused_fd_flags(os.O_CLOEXEC)
        file = inside.anon_inode_getfile("made", os.O_RDWR)
        inside.copy_to_user(fd)
        inside.fd_install(fd, file)

    assert task.table()[fd].cloexec
    assert task.fcntl(fd, 3) == os.O_RDWR
    task.close(fd)
    assert nothing_is_left(task)


def test_a_reserved_number_is_a_bad_descriptor_to_every_call(task: Task, inside: Inside) -> None:
    task.eventfd2()
    fd = inside.get_unused_fd_flags()

    for call in (
        lambda: task.close(fd),
        lambda: task.dup(fd),
        lambda: task.dup2(fd, fd),
        lambda: task.fcntl(fd, 1),
        lambda: task.fcntl(fd, 2, 1),
        lambda: task.read(fd, 1),
        lambda: task.lseek(fd, 0),
    ):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
    with pytest.raises(OSError, match="busy"):
        task.dup2(0, fd)
    assert task.poll(fd) == 0x20
    task.close_range(0, -1)
    assert task.files.reserved() == [fd]
    inside.put_unused_fd(fd)
    assert nothing_is_left(task)


def test_a_fork_leaves_the_reservation_behind(task: Task, inside: Inside) -> None:
    fd = inside.get_unused_fd_flags()

    child = task.fork()

    assert child.eventfd2() == fd
    inside.put_unused_fd(fd)


def test_a_reserved_number_survives_an_exec_and_loses_its_mark(task: Task, inside: Inside) -> None:
    fd = inside.get_unused_fd_flags(os.O_CLOEXEC)

    task.execve()
    inside.fd_install(fd, inside.anon_inode_getfile("made"))

    assert not task.table()[fd].cloexec


def test_a_mark_on_a_reserved_number_holds_whatever_its_maker_asked(
    task: Task, inside: Inside
) -> None:
    fd = inside.get_unused_fd_flags()
    task.close_range(0, -1, 4)

    inside.fd_install(fd, inside.anon_inode_getfile("made"))

    assert task.table()[fd].cloexec


def test_a_prepared_pair_is_given_back_by_every_way_out(task: Task, inside: Inside) -> None:
    def early() -> str:
        with inside.fd_prepare(0, lambda: inside.anon_inode_getfile("made")) as prepared:
            assert task.files.reserved() == [prepared.fd]
            return "no error, and no publish"

    with inside.system_call():
        early()

    def failing() -> None:
        with inside.fd_prepare(0, lambda: inside.anon_inode_getfile("made")) as prepared:
            inside.copy_to_user(prepared.fd)
            inside.fd_publish(prepared)

    task.kernel.fault = fails("copy_to_user")
    with pytest.raises(OSError, match="Bad address"), inside.system_call():
        failing()

    assert nothing_is_left(task)


def test_a_published_pair_stays(task: Task, inside: Inside) -> None:
    with inside.system_call():
        with inside.fd_prepare(0, lambda: inside.anon_inode_getfile("made")) as prepared:
            fd = inside.fd_publish(prepared)
        prepared.discard()

    assert list(task.table()) == [fd]


def test_the_file_is_made_only_once_the_number_is_held(task: Task, inside: Inside) -> None:
    task.setrlimit(0)
    made: list[File] = []

    def make() -> File:
        made.append(inside.anon_inode_getfile("made"))
        return made[0]

    with pytest.raises(OSError, match="Too many open files"):
        inside.fd_add(0, make)

    assert not made


def test_a_file_that_cannot_be_made_gives_the_number_back(task: Task, inside: Inside) -> None:
    task.kernel.fault = fails("alloc_empty_file")

    with pytest.raises(OSError, match="Too many open files in system"), inside.system_call():
        inside.fd_add(0, lambda: inside.anon_inode_getfile("made"))

    assert nothing_is_left(task)


def test_receive_takes_a_reference_of_its_own(task: Task, inside: Inside) -> None:
    source = task.eventfd2()
    with inside.system_call():
        file = inside.fget(source)
        fd = inside.receive_fd(file, os.O_CLOEXEC)
        assert inside.receive_fd_replace(5, file) == 5
        inside.fput(file)

    assert (fd, file.references) == (1, 3)
    assert {number: entry.cloexec for number, entry in task.table().items()} == {
        0: False,
        1: True,
        5: False,
    }
    assert len({entry.file for entry in task.table().values()}) == 1


def test_a_receive_whose_copy_out_fails_changes_nothing(task: Task, inside: Inside) -> None:
    source = task.eventfd2()
    task.kernel.fault = fails("copy_to_user")

    file = inside.fget(source)
    with pytest.raises(OSError, match="Bad address"):
        inside.receive_fd(file, copy_out=True)
    inside.fput(file)

    assert list(task.table()) == [source]
    assert file.references == 1


@pytest.mark.parametrize(
    ("place", "number"), [(8, errno.EBADF), (3, errno.EBUSY), (1 << 20, errno.EBADF)]
)
def test_receive_at_a_number_fails_as_dup2_does(
    task: Task, inside: Inside, place: int, number: int
) -> None:
    for _ in range(3):
        task.eventfd2()
    reserved = inside.get_unused_fd_flags()
    assert reserved == 3

    file = inside.fget(0)
    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        inside.receive_fd_replace(place, file)

    assert caught.value.errno == number
    assert file.references == 2


def test_receive_beyond_nr_open_is_emfile_where_dup2_says_ebadf() -> None:
    kernel = Kernel(nr_open=256)
    task = kernel.spawn(rlimit_nofile=256)
    task.eventfd2()
    kernel.nr_open = 128
    file = task.inside.fget(0)

    with pytest.raises(OSError, match="Too many open files"):
        task.inside.receive_fd_replace(200, file)
    with pytest.raises(OSError, match="Bad file descriptor"):
        task.dup2(0, 200)


def test_a_pidfd_is_prepared_and_published_by_its_maker(task: Task, inside: Inside) -> None:
    child = task.fork()

    with inside.system_call():
        fd, file = inside.pidfd_prepare(child)
        assert task.table() == {}
        inside.fd_install(fd, file)

    assert task.pidfd_info(fd).pid == child.pid


@pytest.mark.parametrize(
    "step",
    [
        "get_unused_fd_flags",
        "alloc_empty_file",
        "dup_fd",
        "copy_process",
        "copy_to_user",
        "cgroup_can_fork",
    ],
)
def test_a_clone_that_fails_leaves_no_task_and_no_pidfd(
    kernel: Kernel, task: Task, step: str
) -> None:
    task.eventfd2()
    before = task.table()
    kernel.fault = fails(step)

    with pytest.raises(OSError, match=r"^\[Errno"):
        task.inside.copy_process(0x1000)

    kernel.fault = None
    assert task.table() == before
    assert task.files.reserved() == []
    assert list(kernel.tasks) == list(kernel.processes) == [task.pid]
    assert [file.references for file in kernel.files()] == [1]
    assert len(kernel.tables) == 1
    assert task.process.children == []


def test_a_copied_table_is_dropped_by_its_maker(task: Task, inside: Inside) -> None:
    task.eventfd2()
    reserved = inside.get_unused_fd_flags()

    copy = inside.dup_fd()

    assert [number for number, _ in copy.items()] == [0]
    assert copy.reserved() == []
    assert [file.references for file in task.kernel.files()] == [2]
    copy.drop()
    assert [file.references for file in task.kernel.files()] == [1]
    inside.put_unused_fd(reserved)


# -- the wrong ones


def installed(inside: Inside) -> tuple[int, File]:
    fd = inside.get_unused_fd_flags()
    file = inside.anon_inode_getfile("made")
    inside.fd_install(fd, file)
    return fd, file


def two_installs(inside: Inside) -> None:
    fd, _ = installed(inside)
    inside.fd_install(fd, inside.anon_inode_getfile("second"))


def install_without_a_number(inside: Inside) -> None:
    inside.fd_install(3, inside.anon_inode_getfile("made"))


def one_file_installed_twice(inside: Inside) -> None:
    _, file = installed(inside)
    inside.fd_install(inside.get_unused_fd_flags(), file)


def undo_by_put_unused_fd(inside: Inside) -> None:
    fd, _ = installed(inside)
    inside.put_unused_fd(fd)


def undo_by_close_fd(inside: Inside) -> None:
    fd, _ = installed(inside)
    inside.close_fd(fd)


def number_put_twice(inside: Inside) -> None:
    fd = inside.get_unused_fd_flags()
    inside.put_unused_fd(fd)
    inside.put_unused_fd(fd)


def number_of_another_call_put(inside: Inside) -> None:
    inside.put_unused_fd(0)


def double_fput(inside: Inside) -> None:
    file = inside.anon_inode_getfile("made")
    inside.fput(file)
    inside.fput(file)


def fput_after_install(inside: Inside) -> None:
    _, file = installed(inside)
    inside.fput(file)


def reference_taken_after_install(inside: Inside) -> None:
    _, file = installed(inside)
    inside.get_file(file)


def received_after_install(inside: Inside) -> None:
    _, file = installed(inside)
    inside.receive_fd(file)


def received_at_a_number_after_install(inside: Inside) -> None:
    _, file = installed(inside)
    inside.receive_fd_replace(6, file)


def access_mode_for_the_number(inside: Inside) -> None:
    inside.get_unused_fd_flags(os.O_RDWR | os.O_CLOEXEC)


def close_on_exec_for_the_file(inside: Inside) -> None:
    inside.anon_inode_getfile("made", os.O_RDWR | os.O_CLOEXEC)


def published_twice(inside: Inside) -> None:
    prepared = inside.fd_prepare(0, lambda: inside.anon_inode_getfile("made"))
    inside.fd_publish(prepared)
    inside.fd_publish(prepared)


MISTAKES: dict[Callable[[Inside], None], str] = {
    two_installs: "fd_install: 0 was published already",
    install_without_a_number: "fd_install: 3 is not reserved by this call",
    one_file_installed_twice: "fd_install: the call has no reference to <AnonymousFile 1>",
    undo_by_put_unused_fd: "put_unused_fd: 0 was published",
    undo_by_close_fd: "close_fd: 0 was published by this call",
    number_put_twice: "put_unused_fd: 0 is not reserved by this call",
    number_of_another_call_put: "put_unused_fd: 0 is not reserved by this call",
    double_fput: "fput: the call has no reference",
    fput_after_install: "fput: the call has no reference",
    reference_taken_after_install: "get_file: the call has no reference",
    received_after_install: "receive_fd: the call has no reference",
    received_at_a_number_after_install: "receive_fd_replace: the call has no reference",
    access_mode_for_the_number: "get_unused_fd_flags: 0o2 belongs to the file",
    close_on_exec_for_the_file: "anon_inode_getfile: O_CLOEXEC belongs to the number",
    published_twice: "fd_publish: 0 has no file",
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_named(inside: Inside, mistake: Callable[[Inside], None]) -> None:
    with pytest.raises(Misuse) as caught:
        mistake(inside)

    assert str(caught.value).startswith(MISTAKES[mistake])


def test_what_a_call_leaves_is_named(task: Task, inside: Inside) -> None:
    def careless() -> None:
        with inside.system_call():
            inside.get_unused_fd_flags()
            inside.get_unused_fd_flags()
            inside.get_file(inside.anon_inode_getfile("made"))

    left = r"reserved 0, 1; references to <AnonymousFile 1> \(2\)$"
    with pytest.raises(Misuse, match="^the call returned and left: " + left):
        careless()


def test_a_call_that_fails_after_its_publish_leaves_a_descriptor_that_nobody_knows(
    task: Task, inside: Inside
) -> None:
    task.kernel.fault = fails("copy_to_user")
    with pytest.raises(
        Misuse, match=r"^the call failed \(Bad address\) and left: published 0, which"
    ):
        with inside.system_call():
            inside.copy_to_user(installed(inside)[0])
    assert list(task.table()) == [0]


def test_a_new_call_may_close_what_an_earlier_one_published(task: Task, inside: Inside) -> None:
    with inside.system_call():
        fd, _ = installed(inside)
    with inside.system_call():
        inside.close_fd(fd)

    assert nothing_is_left(task)


def test_a_reference_is_not_dropped_more_often_than_it_was_taken(kernel: Kernel) -> None:
    file = File(kernel, os.O_RDWR)
    kernel.fput(file)

    with pytest.raises(Misuse, match="<File 1> has no reference left"):
        kernel.fput(file)


def test_other_steps_fail_by_name(task: Task, inside: Inside) -> None:
    inside.allocate("kmalloc")
    task.kernel.fault = fails("kmalloc")
    with pytest.raises(OSError, match="Cannot allocate memory"):
        inside.allocate()
    inside.allocate("another")
