"""A Descriptor goes wherever Python takes an object with ``fileno()``."""

import asyncio
import fcntl
import os
import select
import selectors
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import fdproof
from fdproof import FileFlags


def test_select_poll_and_epoll() -> None:
    with fdproof.pipe() as (reading, writing):
        assert select.select([reading], [writing], [], 0) == ([], [writing], [])
        os.write(writing.fileno(), b"x")
        assert select.select([reading], [], [], 0)[0] == [reading]

        poll = select.poll()
        poll.register(reading, select.POLLIN)
        assert poll.poll(0) == [(reading.fileno(), select.POLLIN)]

        with select.epoll.fromfd(fdproof.epoll().detach()) as epoll:
            epoll.register(reading, select.EPOLLIN)
            assert epoll.poll(0) == [(reading.fileno(), select.EPOLLIN)]


def test_selectors() -> None:
    with fdproof.eventfd(1) as owner, selectors.DefaultSelector() as selector:
        selector.register(owner, selectors.EVENT_READ)
        [(key, _)] = selector.select(0)
        assert key.fileobj is owner


def test_asyncio() -> None:
    async def wait(owner: fdproof.Descriptor) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(owner, readable.set_result, None)
        try:
            await readable
        finally:
            loop.remove_reader(owner)

    with fdproof.eventfd(1) as owner:
        asyncio.run(wait(owner))


def test_fcntl_and_termios() -> None:
    with fdproof.pipe() as (reading, _):
        assert fcntl.fcntl(reading, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
        assert fcntl.ioctl(reading, termios.FIONREAD, b"\0" * 4) == b"\0" * 4
        with pytest.raises(termios.error):
            termios.tcgetattr(reading)


def test_files(tmp_path: Path) -> None:
    with fdproof.open(tmp_path / "file", FileFlags.RDWR | FileFlags.CREAT) as owner:
        os.fsync(owner)
        os.fdatasync(owner)
        fcntl.flock(owner, fcntl.LOCK_EX)
    before = os.getcwd()
    with fdproof.open(tmp_path, FileFlags.DIRECTORY) as directory:
        os.fchdir(directory)
        try:
            assert os.path.samefile(".", tmp_path)
        finally:
            os.chdir(before)


def test_standard_streams_of_a_subprocess() -> None:
    with fdproof.pipe() as (reading, writing), fdproof.memfd("output") as output:
        os.write(writing.fileno(), b"through the pipe")
        writing.close()
        subprocess.run(["cat"], stdin=reading, stdout=output, check=True)  # type: ignore[call-overload]
        assert os.pread(output.fileno(), 100, 0) == b"through the pipe"


def test_kept_by_a_subprocess() -> None:
    """Close-on-exec is on, so only what is passed on purpose arrives."""
    program = "import os, sys; os.write(int(sys.argv[1]), b'passed'); os.fstat(int(sys.argv[2]))"
    with fdproof.memfd("passed") as passed, fdproof.memfd("kept") as kept:
        done = subprocess.run(
            [sys.executable, "-S", "-c", program, str(passed.fileno()), str(kept.fileno())],
            pass_fds=[passed.fileno()],
            stderr=subprocess.PIPE,
            check=False,
        )
        assert os.pread(passed.fileno(), 100, 0) == b"passed"
        assert b"Bad file descriptor" in done.stderr


def test_sent_over_a_socket() -> None:
    first, second = fdproof.socketpair()
    with (
        first.into_socket() as ours,
        second.into_socket() as theirs,
        fdproof.memfd("sent") as owner,
    ):
        socket.send_fds(ours, [b"x"], [owner.fileno()])
        _, numbers, _, _ = socket.recv_fds(theirs, 1, 1)
        with fdproof.Descriptor(numbers[0]) as received:
            assert received.same_file(owner)
            assert not received.inheritable
