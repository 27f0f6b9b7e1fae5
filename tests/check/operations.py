"""Small operations, each with one thing that goes wrong under a fault, or with nothing wrong at all."""

import asyncio
import ctypes
import functools
import os
import signal
import socket
import subprocess
import threading

FILE = "/proc/self/comm"


def leaks_a_pipe() -> None:
    reading, writing = os.pipe()
    file = os.open(FILE, os.O_RDONLY)
    for number in (file, reading, writing):
        os.close(number)


def leaks_a_file() -> None:
    file = os.open(FILE, os.O_RDONLY)
    other = os.eventfd(0)
    os.close(other)
    os.close(file)


def leaks_a_socket() -> None:
    number = socket.socket().detach()
    here, there = socket.socketpair()
    here.close()
    there.close()
    os.close(number)


def leaks_three_kinds() -> None:
    reading, writing = os.pipe()
    event = os.eventfd(0)
    file = os.open(FILE, os.O_RDONLY)
    for number in (reading, writing, event, file):
        os.close(number)


def leaks_and_returns() -> None:
    event = os.eventfd(0)
    try:
        os.close(os.open(FILE, os.O_RDONLY))
    except OSError:
        return
    os.close(event)


def closes_a_strangers() -> None:
    try:
        file = os.open(FILE, os.O_RDONLY)
    except OSError:
        os.close(0)
        raise
    os.close(file)


def replaces_a_strangers() -> None:
    try:
        file = os.open(FILE, os.O_RDONLY)
    except OSError:
        other = os.eventfd(0)
        os.dup2(other, 0)
        os.close(other)
        raise
    os.close(file)


def aborts() -> None:
    try:
        os.close(os.open(FILE, os.O_RDONLY))
    except OSError:
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGABRT)


def leaves() -> None:
    try:
        os.close(os.open(FILE, os.O_RDONLY))
    except OSError:
        os.write(2, b"last words\n")
        os._exit(3)


def hangs() -> None:
    try:
        os.close(os.open(FILE, os.O_RDONLY))
    except OSError:
        threading.Event().wait()


def survives_exec() -> None:
    # As C code does it that does not think of O_CLOEXEC.
    number = ctypes.CDLL(None).open(FILE.encode(), os.O_RDONLY)
    try:
        subprocess.run(["/bin/sh", "-c", ":"], close_fds=False, check=True)
    finally:
        if number >= 0:
            os.close(number)


def asks_to_survive() -> None:
    reading, writing = os.pipe()
    try:
        os.set_inheritable(reading, True)
        subprocess.run(["/bin/sh", "-c", ":"], close_fds=False, check=True)
        subprocess.run(["/bin/sh", "-c", ":"], pass_fds=[writing], check=True)
    finally:
        os.close(reading)
        os.close(writing)


@functools.cache
def opened_once() -> int:
    return os.open(FILE, os.O_RDONLY)


def keeps_a_singleton() -> None:
    os.pread(opened_once(), 1, 0)


_fallback: list[int] = []


def keeps_a_fallback() -> None:
    """One more descriptor after the first fault, and never another."""
    try:
        os.close(os.eventfd(0))
    except OSError:
        if not _fallback:
            _fallback.append(os.open(FILE, os.O_RDONLY))


def clean() -> None:
    with open(FILE) as file:
        file.read()


def clean_in_a_thread() -> None:
    thread = threading.Thread(target=clean)
    thread.start()
    thread.join()


def clean_in_a_child() -> None:
    subprocess.run(["/bin/sh", "-c", ":"], check=True)


async def clean_coroutine() -> None:
    await asyncio.sleep(0)
    clean()


def garbage() -> None:
    """Closed only by the collector of cycles: late, but not a leak."""

    class Owner:
        def __init__(self) -> None:
            self.number, self.me = os.eventfd(0), self

        def __del__(self) -> None:
            os.close(self.number)

    Owner()
    os.close(os.open(FILE, os.O_RDONLY))


def nothing() -> None:
    pass


def raises_in_a_fork() -> None:
    """The child comes out of the operation: it must not be taken for a second run."""
    pid = os.fork()
    if pid == 0:
        raise LookupError("in the child")
    os.waitpid(pid, 0)


def returns_in_a_fork() -> None:
    """The same without an error, and nobody waits for the child."""
    os.fork()


def many_points() -> None:
    for _ in range(40):
        os.close(os.eventfd(0))
    leaks_a_pipe()


def slow_after_a_leak() -> None:
    """One leak, found at once; then every fault takes the whole time limit, until it is interrupted."""
    leaks_a_pipe()
    for _ in range(40):
        try:
            os.close(os.eventfd(0))
        except OSError:
            tells_and_waits()


def tells_and_waits() -> None:
    """Leave a grandchild that nobody reaches by a group or a session; say that it is there; stay."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(os.path.join(os.environ["OPERATION_DIRECTORY"], "told"), "w") as told:
                told.write("there")
        signal.pause()
    signal.pause()
