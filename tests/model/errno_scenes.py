"""Scenes whose last step fails with an errno that random programs meet seldom, or never."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from fdproof.model import Credentials, Rights, Task
from tests.model.program import NOBODYS_PID, Notified, Pid, Program, Spawn, Step

__all__ = ["FAULTED", "FAULTS", "MODEL_ALONE", "OPTIONS", "SCENES", "Scene"]

ROOT, USER = Spawn(16), Spawn(16, uid=5)
SMALL = Spawn(4, uid=5)
A_THREAD = 0x100 | 0x400 | 0x800 | 0x10000
DATAGRAM, SEQPACKET, DONTWAIT = socket.SOCK_DGRAM, socket.SOCK_SEQPACKET, socket.MSG_DONTWAIT
TOO_LONG = "/" + "x" * 256
CLONE_FILES, CLONE_PIDFD = 0x400, 0x1000
MAKE = os.O_RDWR | os.O_CREAT
END = 2**63 - 1


class Scene(NamedTuple):
    """A program, and the errno with which its last step fails on both subjects."""

    number: int
    program: Program

    @property
    def call(self) -> str:
        return self.program.steps[-1].call


def _scene(number: int, *spawns_and_steps: Any) -> Scene:
    """A scene of spawns, and of steps as (task, call, *arguments)."""
    spawns = tuple(one for one in spawns_and_steps if isinstance(one, Spawn))
    steps = [one for one in spawns_and_steps if not isinstance(one, Spawn)]
    return Scene(
        number, Program(spawns, tuple(Step(task, call, tuple(rest)) for task, call, *rest in steps))
    )


_MADE = (0, "open", "/a", MAKE)
_RING = (0, "io_uring_setup", 1)
_LISTENER = (0, "seccomp", ("dup",))
_STOPPED = (_LISTENER, (0, "eventfd2"), (0, "fork"), (1, "close", 0))

SCENES = (
    _scene(errno.ENAMETOOLONG, ROOT, (0, "openat", -100, TOO_LONG)),
    _scene(errno.EPERM, ROOT, USER, _MADE, (1, "openat", -100, "/a", os.O_NOATIME)),
    _scene(errno.ENAMETOOLONG, ROOT, (0, "open", TOO_LONG)),
    _scene(errno.EPERM, ROOT, USER, _MADE, (1, "open", "/a", os.O_NOATIME)),
    _scene(errno.EEXIST, ROOT, _MADE, (0, "open", "/a", MAKE | os.O_EXCL)),
    _scene(errno.EEXIST, ROOT, _MADE, (0, "openat", -100, "/a", MAKE | os.O_EXCL)),
    _scene(errno.ENAMETOOLONG, ROOT, (0, "mkdir", TOO_LONG)),
    _scene(errno.EACCES, USER, (0, "mkdir", "/d")),
    _scene(errno.ENAMETOOLONG, ROOT, (0, "unlink", TOO_LONG)),
    _scene(errno.EACCES, ROOT, USER, _MADE, (1, "unlink", "/a")),
    _scene(errno.EISDIR, ROOT, (0, "mkdir", "/d"), (0, "unlink", "/d")),
    _scene(errno.EAGAIN, ROOT, (0, "pipe2", os.O_NONBLOCK), *[(0, "write", 1, b"x" * 4096)] * 17),
    _scene(
        errno.EFBIG,
        ROOT,
        _MADE,
        (0, "lseek", 0, END - 1),
        (0, "write", 0, b"x"),
        (0, "open", "/a", os.O_WRONLY | os.O_APPEND),
        (0, "write", 1, b"x"),
    ),
    _scene(errno.EPIPE, ROOT, (0, "pipe2"), (0, "close", 0), (0, "write", 1, b"x")),
    _scene(
        errno.ECONNRESET,
        ROOT,
        (0, "socketpair", SEQPACKET),
        (0, "write", 0, b"x"),
        (0, "close", 1),
        (0, "write", 0, b"x"),
    ),
    _scene(
        errno.ENOTCONN,
        ROOT,
        (0, "socketpair", DATAGRAM),
        (0, "close", 1),
        (0, "write", 0, b"x"),
        (0, "write", 0, b"x"),
    ),
    _scene(errno.ENXIO, ROOT, _MADE, (0, "lseek", 0, 5, 3)),
    _scene(errno.EINVAL, ROOT, (0, "unshare", 1)),
    _scene(
        errno.EAGAIN,
        ROOT,
        (0, "fork"),
        (0, "pidfd_open", Pid(1), os.O_NONBLOCK),
        (0, "waitid", os.P_PIDFD, 0, os.WEXITED),
    ),
    _scene(errno.EPERM, ROOT, USER, (1, "kill", Pid(0), 0)),
    _scene(
        errno.EAGAIN,
        ROOT,
        (0, "socketpair", DATAGRAM),
        *[(0, "sendmsg", 0, b"x", (), DONTWAIT)] * 300,
    ),
    _scene(
        errno.ECONNRESET,
        ROOT,
        (0, "socketpair", SEQPACKET),
        (0, "write", 0, b"x"),
        (0, "close", 1),
        (0, "sendmsg", 0, b"x"),
    ),
    _scene(
        errno.ECONNREFUSED,
        ROOT,
        (0, "socketpair", DATAGRAM),
        (0, "close", 1),
        (0, "sendmsg", 0, b"x"),
    ),
    _scene(
        errno.ENOTCONN,
        ROOT,
        (0, "socketpair", DATAGRAM),
        (0, "close", 1),
        (0, "write", 0, b"x"),
        (0, "sendmsg", 0, b"x"),
    ),
    _scene(errno.EMSGSIZE, ROOT, (0, "socketpair", DATAGRAM), (0, "sendmsg", 0, b"x" * 10**6)),
    _scene(
        errno.ETOOMANYREFS,
        SMALL,
        (0, "socketpair", DATAGRAM),
        *[(0, "sendmsg", 0, b"x", (Rights((0,)),))] * 6,
    ),
    _scene(
        errno.EPERM,
        ROOT,
        (0, "socketpair"),
        (0, "setsockopt", 1, 83, 0),
        (0, "sendmsg", 0, b"x", (Rights((0,)),)),
    ),
    _scene(
        errno.ECONNRESET,
        ROOT,
        (0, "socketpair"),
        (0, "write", 0, b"x"),
        (0, "close", 1),
        (0, "recvmsg", 0, 9),
    ),
    _scene(
        errno.ECONNRESET,
        ROOT,
        (0, "socketpair"),
        (0, "write", 0, b"x"),
        (0, "close", 1),
        (0, "read", 0, 9),
    ),
    _scene(
        errno.ESRCH,
        ROOT,
        (0, "socketpair"),
        (0, "sendmsg", 0, b"x", (Credentials(NOBODYS_PID, 0, 0),)),
    ),
    _scene(errno.ENOPROTOOPT, ROOT, (0, "socketpair"), (0, "setsockopt", 0, 999, 1)),
    _scene(errno.ENOPROTOOPT, ROOT, (0, "socketpair"), (0, "getsockopt", 0, 999)),
    _scene(errno.EMFILE, Spawn(2), (0, "socketpair"), (0, "getsockopt", 0, 77)),
    _scene(errno.EINVAL, ROOT, (0, "eventfd2", 0, 4)),
    _scene(
        errno.EEXIST,
        ROOT,
        (0, "epoll_create1"),
        (0, "eventfd2"),
        (0, "epoll_ctl", 0, 1, 1),
        (0, "epoll_ctl", 0, 1, 1),
    ),
    _scene(
        errno.ELOOP,
        ROOT,
        (0, "epoll_create1"),
        (0, "epoll_create1"),
        (0, "epoll_ctl", 0, 1, 1),
        (0, "epoll_ctl", 1, 1, 0),
    ),
    _scene(errno.EPERM, ROOT, (0, "epoll_create1"), _MADE, (0, "epoll_ctl", 0, 1, 1)),
    _scene(errno.ENOENT, ROOT, (0, "epoll_create1"), (0, "eventfd2"), (0, "epoll_ctl", 0, 2, 1)),
    _scene(errno.EPERM, ROOT, USER, (1, "pidfd_open", Pid(0)), (1, "pidfd_getfd", 0, 0)),
    _scene(
        errno.EMFILE,
        Spawn(1),
        (0, "fork"),
        (1, "eventfd2"),
        (0, "pidfd_open", Pid(1)),
        (0, "pidfd_getfd", 0, 0),
    ),
    _scene(errno.EPERM, ROOT, USER, (1, "pidfd_open", Pid(0)), (1, "pidfd_send_signal", 0, 0)),
    *(
        _scene(
            errno.ESRCH,
            ROOT,
            (0, "fork"),
            (0, "pidfd_open", Pid(1)),
            (1, "exit"),
            (0, "waitid", os.P_PIDFD, 0, os.WEXITED),
            (0, call, 0, 0),
        )
        for call in ("pidfd_send_signal", "pidfd_info")
    ),
    _scene(errno.EMFILE, SMALL, _RING, (0, "io_uring_register_files", 0, (-1,) * 5)),
    _scene(
        errno.EBUSY,
        ROOT,
        _RING,
        (0, "io_uring_register_files", 0, (-1,)),
        (0, "io_uring_register_files", 0, (-1,)),
    ),
    _scene(
        errno.EINVAL,
        ROOT,
        _RING,
        (0, "io_uring_register_files", 0, (-1,)),
        (0, "io_uring_update", 0, 1, (-1,)),
    ),
    _scene(errno.ENXIO, ROOT, _RING, (0, "io_uring_update", 0, 0, (-1,))),
    _scene(errno.ENXIO, ROOT, _RING, (0, "io_uring_unregister_files", 0)),
    _scene(
        errno.EINVAL,
        ROOT,
        _RING,
        _MADE,
        (0, "io_uring_register_files", 0, (1,)),
        (0, "io_uring_install", 0, 0, 2),
    ),
    _scene(
        errno.EMFILE,
        ROOT,
        _RING,
        _MADE,
        (0, "io_uring_register_files", 0, (1,)),
        (0, "setrlimit", 2),
        (0, "io_uring_install", 0, 0),
    ),
    *(
        _scene(errno.EOPNOTSUPP, ROOT, (0, "eventfd2"), (0, call, 0, *rest))
        for call, *rest in (
            ("io_uring_register_files", (-1,)),
            ("io_uring_update", 0, (-1,)),
            ("io_uring_unregister_files",),
            ("io_uring_install", 0),
        )
    ),
    *(
        _scene(errno.EMFILE, Spawn(0), (0, call, *rest))
        for call, *rest in (
            ("openat", -100, "/"),
            ("memfd_create",),
            ("eventfd2",),
            ("epoll_create1",),
            ("io_uring_setup", 1),
            ("seccomp", ("dup",)),
        )
    ),
    *(
        _scene(errno.ENOTDIR, ROOT, _MADE, (0, call, *rest))
        for call, *rest in (
            ("open", "/a/b"),
            ("openat", -100, "/a/b"),
            ("mkdir", "/a/b"),
            ("unlink", "/a/b"),
        )
    ),
    _scene(errno.EINVAL, ROOT, (0, "open", "/d", os.O_CREAT | os.O_DIRECTORY)),
    _scene(errno.EINVAL, ROOT, (0, "openat", -100, "/d", os.O_CREAT | os.O_DIRECTORY)),
    _scene(errno.EBADF, ROOT, (0, "openat", 9, "a")),
    _scene(errno.EACCES, USER, (0, "openat", -100, "/a", MAKE)),
    _scene(errno.EISDIR, ROOT, (0, "openat", -100, "/", os.O_RDWR)),
    _scene(errno.EISDIR, ROOT, (0, "open", "/"), (0, "read", 0, 1)),
    _scene(errno.EAGAIN, ROOT, (0, "pipe2", os.O_NONBLOCK), (0, "read", 0, 1)),
    _scene(
        errno.ECONNREFUSED,
        ROOT,
        (0, "socketpair", DATAGRAM),
        (0, "close", 1),
        (0, "write", 0, b"x"),
    ),
    _scene(errno.EMFILE, Spawn(1), (0, "eventfd2"), (0, "fcntl", 0, 0, 0)),
    _scene(errno.EPERM, USER, (0, "eventfd2"), (0, "fcntl", 0, 4, os.O_NOATIME)),
    _scene(errno.EPERM, ROOT, (0, "setrlimit", 4, 2**40)),
    _scene(errno.EINVAL, ROOT, (0, "clone", 0x10000)),
    _scene(errno.EINVAL, ROOT, (0, "kill", Pid(0), 65)),
    _scene(errno.EINVAL, ROOT, (0, "socketpair"), (0, "sendmsg", 0, b"x", (Rights((0,) * 254),))),
    _scene(errno.EINVAL, ROOT, (0, "memfd_create", "m", 64)),
    _scene(errno.ENOENT, ROOT, (0, "clone", A_THREAD), (0, "pidfd_open", Pid(1))),
    _scene(
        errno.ESRCH,
        ROOT,
        (0, "fork"),
        (0, "pidfd_open", Pid(1)),
        (1, "exit"),
        (0, "pidfd_getfd", 0, 0),
    ),
    _scene(errno.EINVAL, ROOT, (0, "io_uring_setup", 0)),
    _scene(errno.EINVAL, ROOT, (0, "io_uring_register_files", -1, (0,))),
    _scene(errno.EINVAL, ROOT, (0, "io_uring_unregister_files", -1)),
    _scene(errno.ENOENT, ROOT, _LISTENER, (0, "notif_send", 0, Notified(0))),
    _scene(errno.EINVAL, ROOT, _LISTENER, (0, "notif_send", 0, Notified(0), {"flags": 2})),
    _scene(errno.EINVAL, ROOT, (0, "epoll_create1"), (0, "notif_id_valid", 0, Notified(0))),
    _scene(errno.ENOENT, ROOT, _LISTENER, (0, "eventfd2"), (0, "notif_addfd", 0, Notified(0), 1)),
    _scene(errno.EINVAL, ROOT, (0, "seccomp", ("dup",), 1)),
    _scene(errno.EBUSY, ROOT, _LISTENER, (0, "seccomp", ("dup",))),
    _scene(
        errno.ESRCH,
        ROOT,
        (0, "clone", A_THREAD),
        (1, "seccomp", ("pipe2",)),
        (0, "seccomp", ("dup",), 1 | 16),
    ),
    _scene(errno.ENOENT, ROOT, _LISTENER, (0, "notif_id_valid", 0, Notified(0))),
    _scene(errno.EINVAL, ROOT, _LISTENER, (0, "notif_set_flags", 0, 2)),
    _scene(
        errno.ENOENT,
        ROOT,
        (0, "clone", 0x400),
        (1, "seccomp", ("dup",)),
        (1, "exit"),
        (0, "notif_recv", 0),
    ),
    *(
        _scene(
            errno.EINPROGRESS,
            ROOT,
            *_STOPPED,
            (1, "begin", "dup", 1),
            (0, "notif_recv", 0),
            (0, "notif_send", 0, Notified(0)),
            (1, "begin", "dup", 1),
            last,
        )
        for last in ((0, "notif_send", 0, Notified(1)), (0, "notif_addfd", 0, Notified(1), 1))
    ),
    _scene(
        errno.EMFILE,
        ROOT,
        *_STOPPED,
        (1, "setrlimit", 2),
        (1, "dup2", 1, 0),
        (1, "begin", "dup", 1),
        (0, "notif_recv", 0),
        (0, "notif_addfd", 0, Notified(0), 1),
    ),
)

_SPACE = "the machine would have to run out of it: "

FAULTS = {
    errno.ENOMEM: _SPACE + "memory",
    errno.ENOBUFS: _SPACE + "memory for messages",
    errno.ENFILE: _SPACE + "files, fs.file-max",
    errno.EAGAIN: _SPACE + "processes; as clone says it",
    errno.EFAULT: "programs of the model have no addresses",
}
"""Errnos to which no program brings Linux here. In the model `Kernel.fault` makes them happen."""


def _two_files(task: Task) -> None:
    task.eventfd2()
    task.eventfd2()


def _shared(task: Task) -> None:
    task.eventfd2()
    task.clone(CLONE_FILES)


def _epoll(task: Task) -> None:
    task.epoll_create1()
    task.eventfd2()


def _pair(task: Task) -> None:
    task.socketpair()


def _bare_ring(task: Task) -> None:
    task.io_uring_setup(1)


def _ring(task: Task) -> None:
    task.io_uring_setup(1)
    task.eventfd2()
    task.io_uring_register_files(0, [1])


def _stopped(task: Task) -> None:
    task.seccomp(["dup"])
    task.eventfd2()
    task.fork().begin("dup", 1)
    task.notif_recv(0)


def _nothing(task: Task) -> None:
    pass


FAULTED: dict[str, tuple[Callable[[Task], None], tuple[Any, ...]]] = {
    "open": (_nothing, ("/a", MAKE)),
    "openat": (_nothing, (-100, "/a", MAKE)),
    "pipe2": (_nothing, ()),
    "dup2": (_two_files, (0, 200)),
    "dup3": (_two_files, (0, 200)),
    "fcntl": (_two_files, (0, 0, 200)),
    "fork": (_nothing, ()),
    "clone": (_nothing, (CLONE_PIDFD,)),
    "unshare": (_shared, (CLONE_FILES,)),
    "execve": (_shared, ()),
    "close_range": (_shared, (5, 9, 2)),
    "socketpair": (_nothing, ()),
    "sendmsg": (_pair, (0, b"x")),
    "write": (_pair, (0, b"x")),
    "recvmsg": (_pair, (0, 9)),
    "getsockopt": (_pair, (0, 77)),
    "memfd_create": (_nothing, ()),
    "eventfd2": (_nothing, ()),
    "epoll_create1": (_nothing, ()),
    "epoll_ctl": (_epoll, (0, 1, 1)),
    "pidfd_open": (_nothing, (1,)),
    "pidfd_getfd": (_nothing, ()),
    "io_uring_setup": (_nothing, (1,)),
    "io_uring_register_files": (_bare_ring, (0, (-1,))),
    "io_uring_install": (_ring, (0, 0)),
    "seccomp": (_nothing, (("dup",),)),
    "notif_recv": (_nothing, ()),
    "notif_addfd": (_stopped, (0, 1, 1)),
}
"""A call in which such a step can be made to fail: the scene, and its arguments."""


def _reserved(task: Task) -> None:
    task.eventfd2()
    task.get_unused_fd_flags()


def _beyond_nr_open(task: Task) -> None:
    task.eventfd2()
    task.dup2(0, 1000)
    task.clone(CLONE_FILES)
    task.kernel.nr_open = 64


def _reserved_in_the_target(task: Task) -> None:
    task.seccomp(["dup"])
    task.eventfd2()
    target = task.fork()
    target.get_unused_fd_flags()
    target.begin("dup", 1)
    task.notif_recv(0)


MODEL_ALONE: dict[tuple[str, int], tuple[Callable[[Task], None], tuple[Any, ...]]] = {
    ("dup2", errno.EBUSY): (_reserved, (0, 1)),
    ("dup3", errno.EBUSY): (_reserved, (0, 1)),
    ("fork", errno.EMFILE): (_beyond_nr_open, ()),
    ("clone", errno.EMFILE): (_beyond_nr_open, (0,)),
    ("unshare", errno.EMFILE): (_beyond_nr_open, (CLONE_FILES,)),
    ("close_range", errno.EMFILE): (_beyond_nr_open, (5, 9, 2)),
    ("notif_addfd", errno.EBUSY): (_reserved_in_the_target, (0, 1, 1)),
}
"""What needs a reserved number, or another fs.nr_open than the machine's: the scene, and the arguments."""

OPTIONS: dict[tuple[str, int], dict[str, int]] = {
    ("notif_addfd", errno.EBUSY): {"flags": 1, "newfd": 2},
}
