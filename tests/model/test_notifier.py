"""The seccomp notifier: how far a trapped call has come, and what a supervisor may do about it."""

import errno
import os
import select
import signal

import pytest

from fdproof.model import Kernel, Notification, Pending
from tests.model.failing import eventually, failing

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "ADDFD_SEND", "pidfd_getfd")

CONTINUE, SETFD, SEND = 1, 1, 2
READABLE = select.POLLIN | select.POLLRDNORM
WRITABLE = select.POLLOUT | select.POLLWRNORM
HUP = select.POLLHUP
CLONE_AS_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000


class Scene:
    """A supervisor, and a target whose dup is trapped."""

    def __init__(self, kernel: Kernel, *, rlimit_nofile: int = 1024) -> None:
        self.supervisor = kernel.spawn()
        self.target = self.supervisor.fork()
        self.target.setrlimit(rlimit_nofile)
        inside = self.target.seccomp(["dup"])
        pidfd = self.supervisor.pidfd_open(self.target.pid)
        self.listener = self.supervisor.pidfd_getfd(pidfd, inside)
        self.target.close(inside)
        self.pidfd = pidfd
        self.source = self.supervisor.eventfd2(7)

    def trapped(self, fd: int = 99) -> tuple[Pending, Notification]:
        """Make the target call, and receive the notification."""
        call = self.target.begin("dup", fd)
        assert not call.done
        return call, self.supervisor.notif_recv(self.listener)


@pytest.fixture
def scene(kernel: Kernel) -> Scene:
    return Scene(kernel)


def test_a_listener_is_close_on_exec_and_has_no_data(kernel: Kernel) -> None:
    task = kernel.spawn()
    listener = task.seccomp(["dup"])
    assert task.table()[listener].cloexec
    assert task.fcntl(listener, 3) == os.O_RDWR
    with failing(errno.EINVAL):
        task.read(listener, 1)
    with failing(errno.ESPIPE):
        task.lseek(listener, 0)


def test_a_notification_names_the_call(scene: Scene) -> None:
    _, notification = scene.trapped(5)
    assert notification.pid == scene.target.pid
    assert notification.call == "dup"
    assert notification.arguments[0] == 5


def test_a_call_that_is_not_named_is_not_trapped(scene: Scene) -> None:
    assert scene.target.eventfd2() == 0
    scene.target.close(0)
    assert scene.supervisor.poll(scene.listener) == 0


def test_the_supervisor_says_what_the_call_returns(scene: Scene) -> None:
    call, notification = scene.trapped()
    scene.supervisor.notif_send(scene.listener, notification.id, value=41)
    assert call.result() == 41
    call, notification = scene.trapped()
    scene.supervisor.notif_send(scene.listener, notification.id, error=errno.ENOSPC)
    with failing(errno.ENOSPC):
        call.result()


def test_a_call_that_continues_is_the_kernels(scene: Scene) -> None:
    fd = scene.target.eventfd2()
    call, notification = scene.trapped(fd)
    scene.supervisor.notif_send(scene.listener, notification.id, flags=CONTINUE)
    assert call.result() == 1
    call, notification = scene.trapped(99)
    scene.supervisor.notif_send(scene.listener, notification.id, flags=CONTINUE)
    with failing(errno.EBADF):
        call.result()


def test_poll_tells_who_has_to_do_something(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    assert supervisor.poll(listener) == 0
    assert not scene.target.begin("dup", 0).done
    eventually(lambda: supervisor.poll(listener) == READABLE)
    notification = supervisor.notif_recv(listener)
    assert supervisor.poll(listener) == WRITABLE
    supervisor.notif_send(listener, notification.id)
    assert supervisor.poll(listener) == 0


def test_an_id_is_valid_between_receiving_and_answering(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    _, notification = scene.trapped()
    supervisor.notif_id_valid(listener, notification.id)
    with failing(errno.ENOENT):
        supervisor.notif_id_valid(listener, notification.id + 1)
    supervisor.notif_send(listener, notification.id)
    with failing(errno.ENOENT):
        supervisor.notif_id_valid(listener, notification.id)


def test_what_was_not_received_cannot_be_answered(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    call, first = scene.trapped()
    supervisor.notif_send(listener, first.id)
    assert call.result() == 0
    assert not scene.target.begin("dup", 0).done
    following = first.id + 1
    with failing(errno.ENOENT):
        supervisor.notif_id_valid(listener, following)
    with failing(errno.EINPROGRESS):
        supervisor.notif_send(listener, following)
    with failing(errno.EINPROGRESS):
        supervisor.notif_addfd(listener, following, scene.source)
    assert supervisor.notif_recv(listener).id == following


def test_nothing_is_answered_twice(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    call, notification = scene.trapped()
    supervisor.notif_send(listener, notification.id, value=1)
    assert call.result() == 1
    for again in (
        lambda: supervisor.notif_send(listener, notification.id),
        lambda: supervisor.notif_addfd(listener, notification.id, scene.source),
    ):
        with failing(errno.ENOENT):
            again()


def test_answers_are_checked_before_the_id(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    for answer in ({"flags": 2}, {"flags": 1, "value": 1}, {"flags": 1, "error": 1}):
        with failing(errno.EINVAL):
            supervisor.notif_send(listener, 0, **answer)
    with failing(errno.ENOENT):
        supervisor.notif_send(listener, 0)


def test_added_files_are_the_supervisors(scene: Scene) -> None:
    supervisor, listener, target = scene.supervisor, scene.listener, scene.target
    call, notification = scene.trapped()
    assert supervisor.notif_addfd(listener, notification.id, scene.source) == 0
    added = supervisor.notif_addfd(
        listener, notification.id, scene.source, newfd_flags=os.O_CLOEXEC
    )
    assert added == 1
    supervisor.notif_send(listener, notification.id, value=added)
    assert call.result() == 1
    table = target.table()
    assert table[0].file == table[1].file == supervisor.table()[scene.source].file
    assert (table[0].cloexec, table[1].cloexec) == (False, True)
    assert target.read(0, 8) == (7).to_bytes(8, "little")


def test_a_file_is_added_at_an_exact_number(scene: Scene) -> None:
    supervisor, listener, target = scene.supervisor, scene.listener, scene.target
    reading, writing = target.pipe2()
    _, notification = scene.trapped()
    for number in (writing, 42, 0):
        assert (
            supervisor.notif_addfd(
                listener, notification.id, scene.source, flags=SETFD, newfd=number
            )
            == number
        )
    supervisor.notif_send(listener, notification.id)
    assert sorted(target.table()) == [0, 1, 42]
    assert reading == 0


def test_an_added_file_that_is_sent_answers_the_call(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    call, notification = scene.trapped()
    assert supervisor.notif_addfd(listener, notification.id, scene.source, flags=SEND) == 0
    assert call.result() == 0
    with failing(errno.ENOENT):
        supervisor.notif_id_valid(listener, notification.id)
    call, notification = scene.trapped()
    number = supervisor.notif_addfd(
        listener, notification.id, scene.source, flags=SEND | SETFD, newfd=9
    )
    assert (number, call.result()) == (9, 9)


def test_adding_checks_in_linuxs_order(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    path = supervisor.open("/", os.O_PATH)
    _, notification = scene.trapped()
    id = notification.id
    for options, number in (
        ({"newfd_flags": 1}, errno.EINVAL),
        ({"flags": 4}, errno.EINVAL),
        ({"newfd": 1}, errno.EINVAL),
        ({"newfd": 1, "flags": SEND}, errno.EINVAL),
    ):
        with failing(number):
            supervisor.notif_addfd(listener, 0, 99, **options)
    for source in (99, path):
        with failing(errno.EBADF):
            supervisor.notif_addfd(listener, 0, source)
    with failing(errno.ENOENT):
        supervisor.notif_addfd(listener, id + 1, scene.source)


def test_the_limits_are_the_targets_and_the_call_waits_on(kernel: Kernel) -> None:
    scene = Scene(kernel, rlimit_nofile=1)
    supervisor, listener = scene.supervisor, scene.listener
    assert scene.target.eventfd2() == 0
    call, notification = scene.trapped()
    for flags in (0, SEND):
        with failing(errno.EMFILE):
            supervisor.notif_addfd(listener, notification.id, scene.source, flags=flags)
    for flags in (SETFD, SETFD | SEND):
        with failing(errno.EBADF):
            supervisor.notif_addfd(listener, notification.id, scene.source, flags=flags, newfd=1)
    supervisor.notif_id_valid(listener, notification.id)
    assert not call.done
    supervisor.notif_send(listener, notification.id, error=errno.EMFILE)
    with failing(errno.EMFILE):
        call.result()


@pytest.mark.requires_kernel("SYNC_WAKE_UP")
def test_there_is_one_flag_to_set(scene: Scene) -> None:
    for flags in (1, 0):
        scene.supervisor.notif_set_flags(scene.listener, flags)
    with failing(errno.EINVAL):
        scene.supervisor.notif_set_flags(scene.listener, 2)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("notif_recv", ()),
        ("notif_send", (0,)),
        ("notif_id_valid", (0,)),
        ("notif_addfd", (0, 0)),
        ("notif_set_flags", (2,)),
    ],
)
def test_only_a_listener_is_one(kernel: Kernel, call: str, arguments: tuple[int, ...]) -> None:
    task = kernel.spawn()
    task.pipe2()
    epoll, path = task.epoll_create1(), task.open("/", os.O_PATH)
    for fd, number in (
        (0, errno.ENOTTY),
        (epoll, errno.EINVAL),
        (path, errno.EBADF),
        (99, errno.EBADF),
    ):
        with failing(number):
            getattr(task, call)(fd, *arguments)


def test_without_its_listener_a_trapped_call_is_not_implemented(scene: Scene) -> None:
    first = scene.target.begin("dup", 0)
    assert not first.done
    scene.supervisor.close(scene.listener)
    with failing(errno.ENOSYS):
        first.result()
    with failing(errno.ENOSYS):
        scene.target.begin("dup", 0).result()


def test_a_received_call_ends_with_the_listener_too(scene: Scene) -> None:
    call, _ = scene.trapped()
    scene.supervisor.close(scene.listener)
    with failing(errno.ENOSYS):
        call.result()


def test_a_killed_target_leaves_nothing_to_answer(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    _, notification = scene.trapped()
    supervisor.pidfd_send_signal(scene.pidfd, signal.SIGKILL)
    supervisor.begin("waitid", os.P_PIDFD, scene.pidfd, os.WEXITED).result()
    for answer in (
        lambda: supervisor.notif_id_valid(listener, notification.id),
        lambda: supervisor.notif_send(listener, notification.id),
        lambda: supervisor.notif_addfd(listener, notification.id, scene.source),
        lambda: supervisor.notif_recv(listener),
    ):
        with failing(errno.ENOENT):
            answer()
    assert supervisor.poll(listener) == HUP


def test_epoll_hears_of_calls_of_receiving_and_of_the_end(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    epoll = supervisor.epoll_create1()
    both = select.EPOLLIN | select.EPOLLOUT
    supervisor.epoll_ctl(epoll, 1, listener, both | select.EPOLLET, 7)
    assert supervisor.epoll_wait(epoll) == []
    call = scene.target.begin("dup", 0)
    assert not call.done
    assert supervisor.epoll_wait(epoll) == [(7, select.EPOLLIN)]
    notification = supervisor.notif_recv(listener)
    assert supervisor.epoll_wait(epoll) == [(7, select.EPOLLOUT)]
    supervisor.notif_send(listener, notification.id, value=5)
    assert call.result() == 5
    scene.target.exit()
    supervisor.waitid(os.P_PIDFD, scene.pidfd, os.WEXITED)
    assert supervisor.epoll_wait(epoll) == [(7, select.EPOLLHUP)]


def test_children_have_the_filter(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    child = scene.target.fork()
    call = child.begin("dup", 0)
    notification = supervisor.notif_recv(listener)
    assert notification.pid == child.pid
    supervisor.notif_send(listener, notification.id, value=3)
    assert call.result() == 3
    scene.target.exit()
    assert supervisor.poll(listener) == 0
    child.exit()
    supervisor.waitid(os.P_PIDFD, scene.pidfd, os.WEXITED)
    assert supervisor.poll(listener) == HUP


def test_calls_are_received_in_the_order_in_which_they_were_made(scene: Scene) -> None:
    supervisor, listener = scene.supervisor, scene.listener
    child = scene.target.fork()
    calls = []
    for task in (scene.target, child):
        calls.append(task.begin("dup", 0))
        assert not calls[-1].done
    first, second = supervisor.notif_recv(listener), supervisor.notif_recv(listener)
    assert (first.pid, second.pid) == (scene.target.pid, child.pid)
    assert second.id == first.id + 1
    supervisor.notif_send(listener, second.id, value=2)
    supervisor.notif_send(listener, first.id, value=1)
    assert [call.result() for call in calls] == [1, 2]


def test_one_listener_in_a_chain_of_filters(kernel: Kernel) -> None:
    task = kernel.spawn()
    listener = task.seccomp(["dup"])
    with failing(errno.EBUSY):
        task.seccomp(["dup2"])
    assert list(task.table()) == [listener]
    task.close(listener)
    again = task.seccomp(["dup2"])
    assert task.begin("eventfd2").result() == again + 1
    with failing(errno.ENOSYS):
        task.begin("dup", 0).result()


@pytest.mark.parametrize("flags", [1 << 20, 1])
def test_seccomp_refuses_flags(kernel: Kernel, flags: int) -> None:
    task = kernel.spawn(rlimit_nofile=0)
    with failing(errno.EINVAL):
        task.seccomp(["dup"], flags)
    with failing(errno.EMFILE):
        task.seccomp(["dup"])
    assert task.begin("dup", 0).done


def test_all_threads_get_the_filter_where_asked(kernel: Kernel) -> None:
    task = kernel.spawn()
    thread, apart = task.clone(CLONE_AS_THREAD), task.clone(CLONE_AS_THREAD)
    listener = task.seccomp(["dup"], 1 | 16)
    call = thread.begin("dup", 99)
    notification = task.notif_recv(listener)
    task.notif_send(listener, notification.id, value=5)
    assert call.result() == 5
    task.close(listener)
    own = apart.seccomp(["dup2"])
    with failing(errno.ESRCH):
        task.seccomp(["dup3"], 1 | 16)
    assert list(task.table()) == [own]
