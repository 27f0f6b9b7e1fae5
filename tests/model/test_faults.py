"""Every step of a call that can fail is made to fail: nothing is left of the call.

Only the model can be told where to fail. `explore` does this to whole programs; here it is one
call at a time, so that each of them is seen to give back what it took.
"""

import errno
import socket
from collections import Counter
from collections.abc import Callable

import pytest

from fdproof.model import Kernel, Pidfd, Received, Rights, Task
from tests.model.failing import failing

Act = Callable[[Task], object]


class Scene:
    """A kernel with one of everything, and a way to fail at the nth step that can fail."""

    def __init__(self) -> None:
        self.kernel = Kernel()
        self.task = self.kernel.spawn()
        self.task.socketpair()
        self.task.socketpair()
        self.task.setsockopt(3, 76, 1)
        self.task.sendmsg(2, b"x", [Rights((0, 1))])
        self.task.epoll_create1()
        self.task.io_uring_setup(4)
        self.task.pidfd_open(self.task.pid)
        self.task.io_uring_register_files(self.task.io_uring_setup(4), [0])
        self.target = self.task.fork()
        listener = self.target.seccomp(["dup"])
        self.task.pidfd_getfd(self.task.pidfd_open(self.target.pid), listener)
        self.target.begin("dup", 0)
        self.steps: list[tuple[str, int]] = []

    def fail_at(self, place: int) -> None:
        """Fail at this step, counting from now."""

        def fault(step: str, number: int) -> bool:
            self.steps.append((step, number))
            return len(self.steps) == place + 1

        self.kernel.fault = fault

    def audit(self) -> None:
        """Demand that no number is reserved, and that each reference has a holder."""
        self.kernel.fault = None
        for table in self.kernel.tables:
            assert table.reserved() == []
        held = Counter(file.serial for _, file in self.kernel.holders())
        assert {file.serial: file.references for file in self.kernel.files()} == held


CALLS: dict[str, Act] = {
    "socketpair": lambda task: task.socketpair(),
    "sendmsg": lambda task: task.sendmsg(0, b"x", [Rights((0, 1))]),
    "write": lambda task: task.write(0, b"x"),
    "eventfd2": lambda task: task.eventfd2(),
    "memfd_create": lambda task: task.memfd_create(),
    "epoll_create1": lambda task: task.epoll_create1(),
    "epoll_ctl": lambda task: task.epoll_ctl(4, 1, 0, 1),
    "pidfd_open": lambda task: task.pidfd_open(task.pid),
    "pidfd_getfd": lambda task: task.pidfd_getfd(6, 0),
    "SO_PEERPIDFD": lambda task: task.getsockopt(0, 77),
    "clone": lambda task: task.clone(0x1000),
    "seccomp": lambda task: task.seccomp(["dup"]),
    "notif_recv": lambda task: task.notif_recv(9),
    "io_uring_setup": lambda task: task.io_uring_setup(1),
    "io_uring_register_files": lambda task: task.io_uring_register_files(5, [0, 1]),
    "io_uring_install": lambda task: task.io_uring_install(7, 0),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_leaves_nothing(call: str) -> None:
    place = 0
    while True:
        scene = Scene()
        before = scene.task.table()
        scene.fail_at(place)
        try:
            CALLS[call](scene.task)
        except OSError as error:
            assert error.errno == scene.steps[place][1]  # noqa: PT017
        else:
            scene.audit()
            break
        scene.audit()
        assert scene.task.table() == before
        place += 1
    assert place == len(scene.steps) > 0


REFUSED: list[tuple[int, Act]] = [
    (errno.EBADF, lambda task: task.sendmsg(0, b"x", [Rights((0, 99))])),
    (errno.EINVAL, lambda task: task.sendmsg(0, b"x", [Rights((0, 5))])),
    (errno.EINVAL, lambda task: task.sendmsg(0, b"x", [Rights((0,)), Pidfd(0)])),
    (errno.ENOTSOCK, lambda task: task.sendmsg(4, b"x", [Rights((0,))])),
    (errno.EAGAIN, lambda task: task.recvmsg(0, 1, 100, socket.MSG_DONTWAIT)),
    (errno.ENOPROTOOPT, lambda task: task.setsockopt(0, 99, 1)),
    (errno.EPERM, lambda task: task.epoll_ctl(4, 1, task.open("/"))),
    (errno.EINVAL, lambda task: task.epoll_ctl(4, 1, 4)),
    (errno.EBADF, lambda task: task.epoll_ctl(4, 1, 99)),
    (errno.EINVAL, lambda task: task.epoll_wait(0)),
    (errno.EBADF, lambda task: task.pidfd_getfd(0, 0)),
    (errno.EBADF, lambda task: task.pidfd_getfd(6, 99)),
    (errno.ENOTTY, lambda task: task.pidfd_info(0)),
    (errno.EBUSY, lambda task: (task.seccomp(["dup3"]), task.seccomp(["dup3"]))),
    (errno.ENOTTY, lambda task: task.notif_recv(0)),
    (errno.ENOENT, lambda task: task.notif_addfd(9, 99, 0)),
    (errno.EBADF, lambda task: task.notif_addfd(9, 99, 99)),
    (errno.EBADF, lambda task: task.io_uring_register_files(5, [0, 99])),
    (errno.EBADF, lambda task: task.io_uring_register_files(5, [0, 7])),
    (errno.EBUSY, lambda task: task.io_uring_register_files(7, [0])),
    (errno.EBADF, lambda task: task.io_uring_update(7, 0, [99])),
    (errno.EOPNOTSUPP, lambda task: task.io_uring_install(0, 0)),
    (errno.EBADF, lambda task: task.io_uring_install(7, 9)),
]


@pytest.mark.parametrize(("number", "act"), REFUSED)
def test_a_call_that_is_refused_leaves_nothing(number: int, act: Act) -> None:
    scene = Scene()
    with failing(number):
        act(scene.task)
    scene.audit()


def test_a_receive_keeps_what_it_took_before_it_failed() -> None:
    arrived: list[Received] = []
    scene = Scene()
    while not arrived or len(scene.steps) >= len(arrived):
        scene = Scene()
        scene.fail_at(len(arrived))
        arrived.append(scene.task.recvmsg(3, 1, 100))
        scene.audit()
    assert [message.control for message in arrived[:4]] == [
        (Pidfd(10),),
        (Pidfd(10),),
        (Rights((10,)), Pidfd(11)),
        (Rights((10,)), Pidfd(11)),
    ]
    assert [message.control for message in arrived[4:]] == [
        (Rights((10, 11)), Pidfd(-errno.EMFILE)),
        (Rights((10, 11)), Pidfd(-errno.ENFILE)),
        (Rights((10, 11)),),
        (Rights((10, 11)), Pidfd(12)),
    ]
    assert [message.flags for message in arrived] == [socket.MSG_CTRUNC] * 4 + [0] * 4


def test_a_notification_that_could_not_be_written_is_received_again() -> None:
    scene = Scene()
    scene.fail_at(0)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        scene.task.notif_recv(9)
    assert caught.value.errno == errno.EFAULT
    scene.kernel.fault = None
    assert scene.task.notif_recv(9).call == "dup"


def test_a_user_may_have_no_more_files_than_the_kernel_allows() -> None:
    kernel = Kernel(file_max=2)
    task = kernel.spawn(uid=1000)
    task.eventfd2()
    makers: list[Callable[[], object]] = [
        task.socketpair,
        lambda: (task.eventfd2(), task.eventfd2()),
    ]
    for make in makers:
        with pytest.raises(OSError) as caught:  # noqa: PT011
            make()
        assert caught.value.errno == errno.ENFILE
    assert len(kernel.files()) == 2
    assert [table.reserved() for table in kernel.tables] == [[]]
