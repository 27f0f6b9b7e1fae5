"""What random programs say: for each call, arguments that are often right, and at times wrong."""

import errno
import fcntl
import os
import random
import select
import socket
from collections.abc import Callable
from typing import Any

from fdproof.model import Credentials, Rights
from tests.model.program import NOBODYS_PID, Notified, Pid, Step

__all__ = ["CALLS", "TABLE_CALLS", "THEMES", "Draw"]

AT_FDCWD = -100
F_DUPFD_QUERY, F_CREATED_QUERY = 1027, 1028
CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
CLONE_PIDFD, CLONE_THREAD = 0x1000, 0x10000
A_THREAD = CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
O_DIRECT = os.O_DIRECT
MSG_CMSG_CLOEXEC = 0x40000000
OPTIONS = (socket.SO_PASSCRED, 76, 83)


class Draw:
    """Random choices for one step of one task.

    Args:
        random: where they come from.
        task: who acts.
        tasks: all that can be named.
        table: what is open in the acting task's table: the kind of file of each number.
        notified: how many notifications were received.
        limit: the soft limit that the program began with.
        hard: the hard limit of the acting task.
        uid: its user.
    """

    def __init__(
        self,
        random: random.Random,
        task: int,
        tasks: int,
        table: dict[int, str],
        notified: int,
        limit: int,
        hard: int,
        uid: int,
    ) -> None:
        self.random = random
        self.task = task
        self.tasks = tasks
        self.table = table
        self.numbers = tuple(table)
        self.notified = notified
        self.limit = limit
        self.hard = hard
        self.uid = uid

    def one(self, *values: Any) -> Any:
        return values[self.random.randrange(len(values))]

    def rarely(self) -> bool:
        return self.random.randrange(12) == 0

    def number(self) -> int:
        """A number to use: mostly an open one."""
        chance = self.random.randrange(20)
        if chance < 16 and self.numbers:
            return self.numbers[self.random.randrange(len(self.numbers))]
        return self.place() if chance < 19 else -1

    def a(self, kind: str) -> int:
        """A number to use where a kind of file is right: mostly one of those."""
        right = [number for number, found in self.table.items() if found == kind]
        if right and self.random.randrange(5):
            return right[self.random.randrange(len(right))]
        return self.number()

    def place(self) -> int:
        """A number to fill: around the limit at times, or far beyond it."""
        if self.rarely():
            around = (-1, self.limit - 1, self.limit, self.limit + 1, 63, 64, 300, 2**31 - 1)
            return around[self.random.randrange(len(around))]
        return self.random.randrange(self.limit)

    def flags(self, *bits: int, wrong: int = 0) -> int:
        """Some of these bits; rarely one that is wrong."""
        value = 0
        for bit in bits:
            if self.random.randrange(3) == 0:
                value |= bit
        return value | wrong if wrong and self.rarely() else value

    def pid(self) -> Any:
        return (
            self.one(0, -1, NOBODYS_PID)
            if self.rarely()
            else Pid(self.random.randrange(self.tasks))
        )

    def path(self) -> str:
        return str(self.one("/a", "/b", "/d", "/d/a", "a", "d/b", "/missing/a", "/a/b", "", "."))

    def open_flags(self) -> int:
        flags = int(self.one(os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR))
        flags |= self.flags(os.O_CREAT, os.O_CLOEXEC, os.O_APPEND, os.O_NONBLOCK)
        if self.rarely():
            flags |= self.flags(os.O_EXCL, os.O_TRUNC, os.O_DIRECTORY, os.O_NOFOLLOW, 3)
        if self.rarely():
            flags |= os.O_PATH
        return flags

    def data(self) -> bytes:
        return b"abcdefgh"[: self.random.randrange(6)]


def _fcntl(draw: Draw) -> tuple[Any, ...]:
    command = draw.one(
        fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD,
        fcntl.F_DUPFD_CLOEXEC, F_DUPFD_QUERY, F_CREATED_QUERY,
    )  # fmt: skip
    if draw.rarely() and draw.rarely():
        command = 9999
    if command == fcntl.F_SETFD:
        argument = draw.one(0, 1, 1, 2, 3)
    elif command == fcntl.F_SETFL:
        argument = draw.flags(os.O_APPEND, os.O_NONBLOCK, os.O_RDWR, os.O_CREAT, os.O_NOATIME)
    else:
        argument = draw.number() if command == F_DUPFD_QUERY else draw.place()
    return draw.number(), command, argument


def _close_range(draw: Draw) -> tuple[Any, ...]:
    first = draw.place()
    last = draw.one(first, first + 2, first + 5, 2**32 - 1, draw.place())
    return max(first, 0), max(last, 0), draw.flags(2, 4, wrong=draw.one(1, 8, 16, 32))


def _clone(draw: Draw) -> tuple[Any, ...]:
    flags = draw.one(0, CLONE_FILES, CLONE_FILES, A_THREAD, CLONE_PIDFD, CLONE_PIDFD | CLONE_FILES)
    if draw.rarely():
        flags = draw.flags(
            CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND, CLONE_PIDFD, CLONE_THREAD
        )
    return (flags,)


def _control(draw: Draw) -> tuple[Any, ...]:
    control: list[Any] = []
    for _ in range(draw.one(0, 1, 1, 1, 2)):
        if draw.random.randrange(5):
            control.append(Rights(tuple(draw.number() for _ in range(draw.one(0, 1, 1, 2, 3)))))
        else:
            pid: Any = Pid(draw.task) if draw.random.randrange(3) else draw.pid()
            control.append(Credentials(pid, draw.one(0, draw.uid), draw.one(0, draw.uid)))
    return tuple(control)


def _epoll_ctl(draw: Draw) -> tuple[Any, ...]:
    events = draw.flags(select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN, 1 << 31, 1 << 30)
    return (
        draw.number(),
        draw.one(1, 1, 1, 2, 3, 4),
        draw.number(),
        events,
        draw.random.randrange(9),
    )


def _kind(draw: Draw) -> tuple[Any, ...]:
    kind = draw.one(socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
    if draw.rarely():
        kind = draw.one(0, 3, 4, 10, 16)
    return (kind | draw.flags(socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK, wrong=1 << 12),)


def _numbers(draw: Draw) -> tuple[int, ...]:
    choices = (draw.a("OrdinaryFile"), draw.a("MemoryFile"), draw.number(), -1)
    return tuple(draw.one(*choices) for _ in range(draw.random.randrange(4)))


def _signal(draw: Draw) -> int:
    return int(draw.one(0, 0, 0, 9, 15, 65, -1) if draw.rarely() else 0)


def _kill(draw: Draw) -> tuple[Any, ...]:
    if draw.rarely():
        return NOBODYS_PID, 0
    return Pid(draw.random.randrange(draw.tasks)), _signal(draw)


def _waitid(draw: Draw) -> tuple[Any, ...]:
    idtype = draw.one(os.P_PID, os.P_PID, os.P_ALL, os.P_PIDFD, 9)
    options = os.WNOHANG | draw.one(os.WEXITED, os.WEXITED, os.WEXITED | os.WNOWAIT, 0)
    return idtype, draw.a("PidFile") if idtype == os.P_PIDFD else draw.pid(), options


def _limit(draw: Draw) -> tuple[Any, ...]:
    soft = draw.one(4, 8, 12, 16, 16, 16, 24, 70)
    if draw.random.randrange(4):
        return (soft,)
    hard = draw.one(16, 24, 100, 4, 2**21)
    if draw.uid == 0 and draw.hard < hard < 2**21:
        # Not every root is allowed to raise it: it takes CAP_SYS_RESOURCE.
        hard = draw.hard
    return soft, hard


def _addfd(draw: Draw) -> tuple[Any, ...]:
    flags = draw.flags(1, 2, 2, wrong=4)
    options = {
        "flags": flags,
        "newfd": draw.place() if flags & 1 or draw.rarely() else 0,
        "newfd_flags": draw.flags(os.O_CLOEXEC, wrong=os.O_NONBLOCK),
    }
    return draw.a("Listener"), _id(draw), draw.number(), options


def _notif_send(draw: Draw) -> tuple[Any, ...]:
    options: dict[str, int] = draw.one(
        {"flags": 1}, {"flags": 1}, {"value": 5}, {"error": errno.EPERM}, {"flags": 1, "value": 1},
        {"flags": 2},
    )  # fmt: skip
    return draw.a("Listener"), _id(draw), options


def _id(draw: Draw) -> Notified:
    return Notified(max(0, draw.notified - draw.one(1, 1, 1, 2, 0)))


Vocabulary = dict[str, tuple[int, Callable[[Draw], tuple[Any, ...]]]]

FILES: Vocabulary = {
    "open": (14, lambda draw: (draw.path(), draw.open_flags())),
    "openat": (3, lambda draw: (draw.one(AT_FDCWD, draw.number()), draw.path(), draw.open_flags())),
    "mkdir": (2, lambda draw: (draw.path(),)),
    "unlink": (1, lambda draw: (draw.path(),)),
    "read": (6, lambda draw: (draw.number(), draw.random.randrange(6))),
    "write": (8, lambda draw: (draw.number(), draw.data())),
    "lseek": (5, lambda draw: (draw.number(), draw.one(0, 1, 3, -1), draw.one(0, 1, 2, 2, 9))),
    "close": (12, lambda draw: (draw.number(),)),
    "dup": (12, lambda draw: (draw.number(),)),
    "dup2": (12, lambda draw: (draw.number(), draw.place())),
    "dup3": (
        10,
        lambda draw: (draw.number(), draw.place(), draw.flags(os.O_CLOEXEC, wrong=os.O_RDWR)),
    ),
    "fcntl": (20, _fcntl),
    "close_range": (5, _close_range),
    "pipe2": (
        6,
        lambda draw: (draw.flags(os.O_CLOEXEC, os.O_NONBLOCK, O_DIRECT, wrong=os.O_APPEND),),
    ),
    "setrlimit": (4, _limit),
}
TASKS: Vocabulary = {
    "fork": (3, lambda draw: ()),
    "clone": (5, _clone),
    "unshare": (3, lambda draw: (draw.one(0, CLONE_FILES, CLONE_FILES, CLONE_FS),)),
    "execve": (3, lambda draw: ()),
    "exit": (3, lambda draw: (draw.one(0, 7, 256),)),
    "kill": (2, _kill),
    "waitid": (4, _waitid),
}
SOCKETS: Vocabulary = {
    "socketpair": (7, _kind),
    "sendmsg": (
        14,
        lambda draw: (draw.a("UnixSocket"), draw.data(), _control(draw), socket.MSG_DONTWAIT),
    ),
    "recvmsg": (
        14,
        lambda draw: (
            draw.a("UnixSocket"),
            draw.one(0, 1, 4, 10),
            draw.one(0, 8, 16, 19, 20, 24, 28, 32, 64, 100),
            socket.MSG_DONTWAIT | draw.flags(MSG_CMSG_CLOEXEC, socket.MSG_PEEK),
        ),
    ),
    "setsockopt": (3, lambda draw: (draw.a("UnixSocket"), draw.one(*OPTIONS), draw.one(0, 1, 1))),
    "getsockopt": (2, lambda draw: (draw.a("UnixSocket"), draw.one(*OPTIONS, 17, 77, 999))),
}
EVENTS: Vocabulary = {
    "memfd_create": (2, lambda draw: ("m", draw.flags(1, 2, wrong=64))),
    "eventfd2": (3, lambda draw: (draw.one(0, 0, 3), draw.flags(os.O_CLOEXEC, os.O_NONBLOCK, 1))),
    "epoll_create1": (3, lambda draw: (draw.flags(os.O_CLOEXEC, wrong=1),)),
    "epoll_ctl": (8, _epoll_ctl),
    "epoll_wait": (8, lambda draw: (draw.a("EpollFile"), draw.one(1, 2, 64, 64, 0))),
    "poll": (5, lambda draw: (draw.number(),)),
}
PIDFDS: Vocabulary = {
    "pidfd_open": (5, lambda draw: (draw.pid(), draw.flags(os.O_NONBLOCK, os.O_EXCL, wrong=1))),
    "pidfd_getfd": (5, lambda draw: (draw.a("PidFile"), draw.number(), draw.flags(0, wrong=1))),
    "pidfd_send_signal": (
        3,
        lambda draw: (draw.a("PidFile"), _signal(draw), draw.one(0, 0, 1, 2, 3)),
    ),
    "pidfd_info": (4, lambda draw: (draw.a("PidFile"), draw.flags(8, 2))),
}
RINGS: Vocabulary = {
    "io_uring_setup": (1, lambda draw: (draw.one(1, 4, 4, 0),)),
    "io_uring_register_files": (2, lambda draw: (draw.a("RingFile"), _numbers(draw))),
    "io_uring_update": (
        1,
        lambda draw: (draw.a("RingFile"), draw.random.randrange(3), _numbers(draw)),
    ),
    "io_uring_unregister_files": (1, lambda draw: (draw.a("RingFile"),)),
    "io_uring_install": (
        2,
        lambda draw: (draw.a("RingFile"), draw.random.randrange(4), draw.flags(1, wrong=2)),
    ),
}
NOTIFIER: Vocabulary = {
    "seccomp": (1, lambda draw: (("dup", "openat", "eventfd2"),)),
    "notif_recv": (4, lambda draw: (draw.a("Listener"),)),
    "notif_send": (3, _notif_send),
    "notif_id_valid": (2, lambda draw: (draw.a("Listener"), _id(draw))),
    "notif_addfd": (5, _addfd),
    "notif_set_flags": (1, lambda draw: (draw.a("Listener"), draw.one(0, 1, 2))),
}

THEMES = (FILES, TASKS, SOCKETS, EVENTS, PIDFDS, RINGS, NOTIFIER)
"""For each call, how often it is made, and its arguments. A program dwells on one of these."""

CALLS: Vocabulary = {call: said for theme in THEMES for call, said in theme.items()}

TABLE_CALLS = (*FILES, *TASKS)
"""The calls on tables, files and tasks alone."""


def step(draw: Draw, call: str) -> Step:
    """Draw a step with this call."""
    return Step(draw.task, call, CALLS[call][1](draw))
