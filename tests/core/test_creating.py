"""The calls that create a descriptor: what they promise together, and each on its own."""

import errno
import fcntl
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import pytest

import fdproof
from fdproof import (
    Descriptor,
    DescriptorFlags,
    FileFlags,
    FlagError,
    Pair,
    ResolveFlags,
    UnsupportedError,
)
from fdproof import _creating as creating_calls
from tests.core.child import in_child, refuse
from tests.core.own_table import lowest_free, table

NOBODY = 1 << 22 | 1  # beyond what pid_max can be


class Creating(Protocol):
    def __call__(self, *, inheritable: bool = ...) -> Descriptor | Pair: ...


CREATING: dict[str, tuple[str, Creating]] = {
    "open": ("openat2", lambda **keep: fdproof.open("/dev/null", **keep)),
    "pipe": ("pipe2", fdproof.pipe),
    "socketpair": ("", fdproof.socketpair),
    "memfd": ("memfd_create", lambda **keep: fdproof.memfd("name", **keep)),
    "eventfd": ("eventfd2", fdproof.eventfd),
    "timerfd": ("timerfd_create", fdproof.timerfd),
    "signalfd": ("signalfd4", lambda **keep: fdproof.signalfd([signal.SIGUSR1], **keep)),
    "epoll": ("epoll_create1", fdproof.epoll),
    "inotify": ("inotify_init1", fdproof.inotify),
    "pidfd": ("pidfd_open", lambda **keep: fdproof.pidfd(os.getpid(), **keep)),
}

each_call = pytest.mark.parametrize("name", CREATING)


def owners(made: Descriptor | Pair) -> list[Descriptor]:
    return list(made) if isinstance(made, Pair) else [made]


def test_every_creating_call_is_swept() -> None:
    assert set(creating_calls.__all__) - {"Descriptor", "Pair"} == set(CREATING)


@each_call
@pytest.mark.parametrize("inheritable", [False, True])
def test_close_on_exec_unless_inheritable(name: str, inheritable: bool) -> None:
    _, create = CREATING[name]
    with create(inheritable=inheritable) as made, create() as usual:
        for owner in owners(made):
            assert fcntl.fcntl(owner, fcntl.F_GETFD) == (0 if inheritable else fcntl.FD_CLOEXEC)
            assert owner.inheritable is inheritable
        for owner in owners(usual):
            assert fcntl.fcntl(owner, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


@each_call
def test_takes_the_lowest_free_numbers(name: str) -> None:
    first = lowest_free()
    with CREATING[name][1]() as made:
        numbers = [owner.fileno() for owner in owners(made)]
        assert numbers[0] == first
        assert numbers == sorted(numbers)
        assert lowest_free() > numbers[-1]


@each_call
@pytest.mark.parametrize(
    "value", [1, None, "", FileFlags.RDWR, DescriptorFlags.CLOEXEC, os.O_CLOEXEC]
)
def test_refuses_flags_for_inheritable(name: str, value: Any) -> None:
    before = table()
    with pytest.raises(FlagError, match=r"^inheritable: "):
        CREATING[name][1](inheritable=value)
    assert table() == before


@pytest.mark.parametrize(
    "name", [name for name, (call, _) in CREATING.items() if call and name != "open"]
)
def test_says_which_call_the_kernel_lacks(name: str) -> None:
    call, create = CREATING[name]

    def check() -> None:
        refuse({call: (errno.ENOSYS, None)})
        before = table()
        with pytest.raises(UnsupportedError, match=call) as caught:
            create()
        assert (caught.value.errno, caught.value.feature) == (errno.ENOSYS, call)
        assert table() == before

    in_child(check)


BAD_ARGUMENTS: list[tuple[str, Callable[[], object]]] = [
    ("path", lambda: fdproof.open("a\0b")),
    ("mode", lambda: fdproof.open("/", mode=0o10000)),
    ("mode", lambda: fdproof.open("/", mode=-1)),
    ("mode", lambda: fdproof.open("/", mode=True)),
    ("flags", lambda: fdproof.open("/", os.O_CLOEXEC)),
    ("flags", lambda: fdproof.open("/", os.O_WRONLY | os.O_RDWR)),
    ("flags", lambda: fdproof.open("/", 1 << 30)),
    ("flags", lambda: fdproof.open("/", ResolveFlags.BENEATH)),  # type: ignore[arg-type]
    ("resolve", lambda: fdproof.open("/", resolve=0x40)),
    ("resolve", lambda: fdproof.open("/", resolve=FileFlags.RDWR)),  # type: ignore[arg-type]
    ("directory", lambda: fdproof.open("x", directory=-100)),
    ("directory", lambda: fdproof.open("x", directory="/")),  # type: ignore[arg-type]
    ("type", lambda: fdproof.socketpair(type=0)),
    ("type", lambda: fdproof.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)),
    ("name", lambda: fdproof.memfd("a\0b")),
    ("initial", lambda: fdproof.eventfd(-1)),
    ("initial", lambda: fdproof.eventfd(1 << 32)),
    ("initial", lambda: fdproof.eventfd(1.0)),  # type: ignore[arg-type]
    ("clock", lambda: fdproof.timerfd(-1)),
    ("after", lambda: fdproof.timerfd(after=-1)),
    ("after", lambda: fdproof.timerfd(after=float("nan"))),
    ("after", lambda: fdproof.timerfd(after=float("inf"))),
    ("after", lambda: fdproof.timerfd(after="1")),  # type: ignore[arg-type]
    ("every", lambda: fdproof.timerfd(after=1, every=-1)),
    ("every", lambda: fdproof.timerfd(every=1)),
    ("signals", lambda: fdproof.signalfd([])),
    ("signals", lambda: fdproof.signalfd([0])),
    ("signals", lambda: fdproof.signalfd([signal.SIGINT, 65])),
    ("signals", lambda: fdproof.signalfd(["INT"])),  # type: ignore[list-item]
    ("pid", lambda: fdproof.pidfd(0)),
    ("pid", lambda: fdproof.pidfd(1 << 31)),
    ("pid", lambda: fdproof.pidfd("1")),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("argument", "call"), BAD_ARGUMENTS)
def test_names_a_bad_argument(argument: str, call: Callable[[], object]) -> None:
    before = table()
    with pytest.raises((ValueError, TypeError), match=f"^{argument}: "):
        call()
    assert table() == before


@pytest.mark.parametrize(
    ("call", "number"),
    [
        (lambda: fdproof.memfd("x" * 250), errno.EINVAL),
        (lambda: fdproof.socketpair(type=4), errno.ESOCKTNOSUPPORT),
        (lambda: fdproof.timerfd(time.CLOCK_PROCESS_CPUTIME_ID), errno.EINVAL),
        (lambda: fdproof.pidfd(NOBODY), errno.ESRCH),
    ],
)
def test_the_others_say_what_the_kernel_says(call: Callable[[], object], number: int) -> None:
    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        call()
    assert caught.value.errno == number
    assert not isinstance(caught.value, fdproof.Error)


def test_pipe_options() -> None:
    with fdproof.pipe(nonblocking=True, packet=True) as (reading, writing):
        assert reading.status == FileFlags.NONBLOCK
        assert writing.status == FileFlags.WRONLY | FileFlags.NONBLOCK | FileFlags.DIRECT
        os.write(writing.fileno(), b"ab")
        os.write(writing.fileno(), b"cd")
        assert os.read(reading.fileno(), 4) == b"ab"


def test_memfd_seals() -> None:
    with fdproof.memfd("sealed", allow_sealing=True) as sealed, fdproof.memfd("plain") as plain:
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        with pytest.raises(PermissionError):
            fcntl.fcntl(plain, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        assert os.readlink(f"/proc/self/fd/{plain.fileno()}").startswith("/memfd:plain")


def test_eventfd_counts() -> None:
    with fdproof.eventfd(2, semaphore=True, nonblocking=True) as owner, fdproof.eventfd(2) as sums:
        assert [os.eventfd_read(owner.fileno()) for _ in range(2)] == [1, 1]
        with pytest.raises(BlockingIOError):
            os.eventfd_read(owner.fileno())
        assert os.eventfd_read(sums.fileno()) == 2


@pytest.mark.parametrize("after", [1e-9, 1e-12, 0.001])
def test_timerfd_expires(after: float) -> None:
    """However short the time: it must not turn into zero, which is off."""
    with fdproof.timerfd(after=after) as once, fdproof.timerfd(after=after, every=0.001) as often:
        for owner, times in ((once, 1), (often, 2)):
            for _ in range(times):
                assert select.select([owner], [], [], 60)[0] == [owner]
                assert int.from_bytes(os.read(owner.fileno(), 8), "little") >= 1


def test_timerfd_is_off_by_default() -> None:
    with fdproof.timerfd(nonblocking=True) as owner, pytest.raises(BlockingIOError):
        os.read(owner.fileno(), 8)


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGRTMAX])
def test_signalfd_reads_what_is_blocked(number: signal.Signals) -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        with fdproof.signalfd([number], nonblocking=True) as owner:
            signal.raise_signal(number)
            assert int.from_bytes(os.read(owner.fileno(), 128)[:4], "little") == number
            with pytest.raises(BlockingIOError):
                os.read(owner.fileno(), 128)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def test_inotify_is_nonblocking_when_told() -> None:
    with fdproof.inotify(nonblocking=True) as owner, pytest.raises(BlockingIOError):
        os.read(owner.fileno(), 100)


def test_pidfd_names_its_process() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    with fdproof.pidfd(pid, nonblocking=True) as owner:
        assert owner.status & FileFlags.NONBLOCK
        assert select.select([owner], [], [], 60)[0] == [owner]
        done = os.waitid(os.P_PIDFD, owner.fileno(), os.WEXITED)
        assert done is not None
        assert done.si_status == 3


@pytest.mark.requires_kernel("PIDFD_THREAD")
def test_pidfd_of_a_thread() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with fdproof.pidfd(thread.native_id or 0, thread=True):
            pass
        with pytest.raises(OSError, match=r"^\[Errno") as caught:
            fdproof.pidfd(thread.native_id or 0)
        assert caught.value.errno in (errno.ENOENT, errno.EINVAL)
    finally:
        release.set()
        thread.join()
