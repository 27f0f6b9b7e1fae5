"""Makes system calls fail for real and prints, as JSON, what each of them got.

A process of its own, because it lowers its limits. Raw calls with numbers from libseccomp,
because the errno table is about the kernel and not about what a C library makes of it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import select
import socket
import struct
import sys
import tempfile
from contextlib import ExitStack
from typing import NamedTuple

LIBC = ctypes.CDLL(None, use_errno=True)
LIBSECCOMP = ctypes.CDLL("libseccomp.so.2")

AT_FDCWD = -100
TIOCGPTPEER = 0x5441
SO_PEERPIDFD = 77
RESOLVE_BENEATH = 8
F_SETPIPE_SZ = 1031
F_ADD_SEALS = 1033


class Result(NamedTuple):
    """A call as it was made; `mode` is the st_mode behind its descriptor, 0 if there is none."""

    name: str
    args: list[int]
    mode: int
    errno: str


class Memory:
    """Buffers for the kernel to read or write, kept alive until the process ends."""

    def __init__(self) -> None:
        self._kept: list[ctypes.Array[ctypes.c_char]] = []

    def __call__(self, content: bytes) -> int:
        self._kept.append(ctypes.create_string_buffer(content))
        return ctypes.addressof(self._kept[-1])


def attempt(name: str, *args: int, descriptor: int | None = None) -> Result:
    mode = 0 if descriptor is None else os.fstat(descriptor).st_mode
    number = LIBSECCOMP.seccomp_syscall_resolve_name(name.encode())
    result = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(each) for each in args))
    failure = errno.errorcode[ctypes.get_errno()] if result == -1 else ""
    return Result(name, [*args, *[0] * (6 - len(args))], mode, failure)


def at_the_limit(memory: Memory, stack: ExitStack) -> dict[str, Result]:
    """Make every creating call that needs no privilege while no number is free."""
    null, name, zeroes = memory(b"/dev/null"), memory(b"name"), memory(bytes(512))
    one, size = memory(struct.pack("Q", 1)), memory(struct.pack("I", 4))
    pair = [stack.enter_context(each) for each in socket.socketpair()]
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    # Two, because each accept that fails for want of a number uses a connection up.
    for _ in range(2):
        stack.enter_context(socket.create_connection(server.getsockname()))
    master, slave = os.openpty()
    pidfd = os.pidfd_open(os.getpid())
    for number in (master, slave, pidfd):
        stack.callback(os.close, number)
    calls: list[tuple[str, tuple[int, ...]]] = [
        ("open", (null, os.O_RDONLY)),
        ("openat", (AT_FDCWD, null, os.O_RDONLY)),
        ("openat2", (AT_FDCWD, null, zeroes, 24)),
        ("creat", (null, 0o600)),
        ("pipe", (zeroes,)),
        ("pipe2", (zeroes, 0)),
        ("socket", (socket.AF_INET, socket.SOCK_STREAM, 0)),
        ("socketpair", (socket.AF_UNIX, socket.SOCK_STREAM, 0, zeroes)),
        ("accept", (server.fileno(), 0, 0)),
        ("accept4", (server.fileno(), 0, 0, 0)),
        ("dup", (pidfd,)),
        ("fcntl", (pidfd, fcntl.F_DUPFD_CLOEXEC, 0)),
        ("memfd_create", (name, 0)),
        ("eventfd", (0,)),
        ("eventfd2", (0, 0)),
        ("timerfd_create", (1, 0)),
        ("signalfd", (-1, zeroes, 8)),
        ("signalfd4", (-1, zeroes, 8, 0)),
        ("epoll_create", (1,)),
        ("epoll_create1", (0,)),
        ("inotify_init", ()),
        ("inotify_init1", (0,)),
        ("pidfd_open", (os.getpid(), 0)),
        ("pidfd_getfd", (pidfd, pidfd, 0)),
        ("mq_open", (name, os.O_RDONLY)),
        ("landlock_create_ruleset", (one, 8, 0)),
        ("ioctl", (master, TIOCGPTPEER, os.O_RDWR)),
        ("getsockopt", (pair[0].fileno(), socket.SOL_SOCKET, SO_PEERPIDFD, zeroes, size)),
    ]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.open("/dev/null", os.O_RDONLY)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        return {f"{name} at the limit": attempt(name, *args) for name, args in calls}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def on_sockets(memory: Memory, stack: ExitStack) -> dict[str, Result]:
    def tcp(*, bound_to: int | None = None) -> socket.socket:
        made = stack.enter_context(socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound_to is not None:
            made.bind(("127.0.0.1", bound_to))
        return made

    def reset_by_peer() -> int:
        ours, theirs = socket.socketpair()
        stack.enter_context(ours)
        ours.send(b"never read")
        theirs.close()
        return ours.fileno()

    fresh, first = tcp().fileno(), tcp(bound_to=0)
    port = first.getsockname()[1]
    second = tcp(bound_to=port).fileno()
    place = memory(struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, b"\x7f\0\0\1"))
    value = memory(bytes(64))
    size = memory(struct.pack("I", 64))
    unknown = (socket.SOL_SOCKET, 9999)
    message = memory(bytes(56))
    found = {"connect": attempt("connect", fresh, place, 16, descriptor=fresh)}
    first.listen()
    fresh = tcp().fileno()
    found["bind"] = attempt("bind", fresh, place, 16, descriptor=fresh)
    found["listen"] = attempt("listen", second, 1, descriptor=second)
    found["shutdown"] = attempt("shutdown", fresh, socket.SHUT_RDWR, descriptor=fresh)
    found["getpeername"] = attempt("getpeername", fresh, value, size, descriptor=fresh)
    found["getsockopt"] = attempt("getsockopt", fresh, *unknown, value, size, descriptor=fresh)
    found["setsockopt"] = attempt("setsockopt", fresh, *unknown, value, 4, descriptor=fresh)
    receiving = {"read": (value, 8), "recvfrom": (value, 8, 0, 0, 0), "recvmsg": (message, 0)}
    for name, rest in receiving.items():
        number = reset_by_peer()
        found[f"{name} socket"] = attempt(name, number, *rest, descriptor=number)
    number = reset_by_peer()
    attempt("read", number, value, 8)
    found["sendto"] = attempt("sendto", number, value, 8, 0, 0, 0, descriptor=number)
    return found


def on_files(memory: Memory, stack: ExitStack) -> dict[str, Result]:
    folder = stack.enter_context(tempfile.TemporaryDirectory())

    def opened(path: str, flags: int = os.O_RDWR | os.O_CREAT) -> int:
        number = os.open(path, flags, 0o600)
        stack.callback(os.close, number)
        return number

    file, again = opened(f"{folder}/file"), opened(f"{folder}/file")
    os.mkdir(f"{folder}/gone")
    gone = opened(f"{folder}/gone", os.O_RDONLY)
    os.rmdir(f"{folder}/gone")
    full = opened("/dev/full", os.O_WRONLY)
    reading, writing = os.pipe()
    stack.callback(os.close, writing)
    sealed = os.memfd_create("sealed", 0)
    stack.callback(os.close, sealed)
    value = memory(bytes(64))
    beneath = memory(struct.pack("QQQ", 0, 0, RESOLVE_BENEATH))
    lock = struct.pack("hhlli4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.flock(file, fcntl.LOCK_EX)
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
    shared = mmap.MAP_SHARED
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    os.write(writing, bytes(8192))
    found = {
        "open missing": attempt("open", memory(b"/dev/null-"), os.O_RDONLY),
        "openat2 beneath": attempt("openat2", AT_FDCWD, memory(b"/dev/null"), beneath, 24),
        "lseek": attempt("lseek", reading, 0, os.SEEK_CUR, descriptor=reading),
        "fadvise64": attempt("fadvise64", reading, 0, 0, 0, descriptor=reading),
        "ioctl": attempt("ioctl", file, 0x5401, value, descriptor=file),
        "flock": attempt("flock", again, exclusive, descriptor=again),
        "fcntl lock": attempt("fcntl", again, fcntl.F_OFD_SETLK, memory(lock), descriptor=again),
        "fcntl seal": attempt("fcntl", sealed, F_ADD_SEALS, 1, descriptor=sealed),
        "fcntl pipe size": attempt("fcntl", writing, F_SETPIPE_SZ, 4096, descriptor=writing),
        "getdents64": attempt("getdents64", gone, value, 64, descriptor=gone),
        "mmap": attempt("mmap", 0, 1 << 47, mmap.PROT_READ, shared, file, 0, descriptor=file),
        "write device": attempt("write", full, value, 8, descriptor=full),
    }
    os.close(reading)
    found["write pipe"] = attempt("write", writing, value, 8, descriptor=writing)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    found["write regular"] = attempt("pwrite64", file, value, 8, 4096, descriptor=file)
    found["ftruncate"] = attempt("ftruncate", file, 4097, descriptor=file)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return found


def on_watchers(memory: Memory, stack: ExitStack) -> dict[str, Result]:
    child = os.fork()
    if child == 0:
        os._exit(0)
    pidfd = os.pidfd_open(child)
    os.waitpid(child, 0)
    epoll = stack.enter_context(select.epoll()).fileno()
    inotify = LIBC.inotify_init1(os.O_CLOEXEC)
    file = os.memfd_create("regular", 0)
    for number in (pidfd, inotify, file):
        stack.callback(os.close, number)
    missing, event = memory(b"/dev/null-"), memory(bytes(12))
    return {
        "pidfd_send_signal": attempt("pidfd_send_signal", pidfd, 9, 0, 0, descriptor=pidfd),
        "pidfd_open ended": attempt("pidfd_open", child, 0),
        "epoll_ctl": attempt("epoll_ctl", epoll, 1, file, event, descriptor=epoll),
        "inotify_add_watch": attempt("inotify_add_watch", inotify, missing, 2, descriptor=inotify),
    }


def main() -> None:
    memory = Memory()
    with ExitStack() as stack:
        found: dict[str, Result] = {}
        for provoke in (at_the_limit, on_sockets, on_files, on_watchers):
            found |= provoke(memory, stack)
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
