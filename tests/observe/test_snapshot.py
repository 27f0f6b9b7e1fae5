"""A snapshot says what is open: compared with what was really opened, here and elsewhere."""

import errno
import os
import re
import resource
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fdproof
from fdproof.observe.snapshot import describe, entry, numbers, same_file, snapshot
from tests.core.child import in_child, refuse
from tests.notifier.scene import pipe


class Kind:
    """A kind of descriptor: how it is made, and what a snapshot must say of it."""

    def __init__(
        self, make: Callable[[Path], list[int]], what: str, flags: int = os.O_RDWR, mode: int = 0
    ) -> None:
        self.make = make
        self.what = what
        self.flags = flags
        self.mode = mode


def opened(flags: int, name: str = "file") -> Callable[[Path], list[int]]:
    return lambda directory: [os.open(directory / name, flags)]


def one_end(end: int) -> Callable[[Path], list[int]]:
    def make(_: Path) -> list[int]:
        ends = os.pipe()
        os.close(ends[1 - end])
        return [ends[end]]

    return make


def detached(make: Callable[[], fdproof.Descriptor]) -> Callable[[Path], list[int]]:
    return lambda _: [make().detach()]


KINDS = {
    "reading": Kind(opened(os.O_RDONLY), "{dir}/file, open for reading", os.O_RDONLY),
    "writing": Kind(
        opened(os.O_WRONLY | os.O_APPEND), "{dir}/file, open for writing", os.O_WRONLY | os.O_APPEND
    ),
    "both": Kind(opened(os.O_RDWR), "{dir}/file, open for reading and writing"),
    "path": Kind(opened(os.O_PATH), "{dir}/file, as a path only", os.O_PATH),
    "directory": Kind(
        opened(os.O_RDONLY | os.O_DIRECTORY, "."),
        "the directory {dir}",
        os.O_RDONLY | os.O_DIRECTORY,
    ),
    "read end": Kind(one_end(0), "the reading end of a pipe", os.O_RDONLY),
    "write end": Kind(one_end(1), "the writing end of a pipe", os.O_WRONLY),
    "socket": Kind(lambda _: [socket.socket().detach()], "a socket"),
    "pair": Kind(lambda _: [one.detach() for one in socket.socketpair()], "a socket"),
    "eventfd": Kind(detached(fdproof.eventfd), "an eventfd"),
    "memfd": Kind(detached(lambda: fdproof.memfd("a name")), "the memory file 'a name'"),
    "epoll": Kind(detached(fdproof.epoll), "an epoll instance"),
    "timerfd": Kind(detached(fdproof.timerfd), "a timerfd"),
    "signalfd": Kind(detached(lambda: fdproof.signalfd([signal.SIGUSR1])), "a signalfd"),
    "inotify": Kind(detached(fdproof.inotify), "an inotify instance", os.O_RDONLY),
    "pidfd": Kind(detached(lambda: fdproof.pidfd(os.getpid())), "a pidfd"),
    "deleted": Kind(
        lambda directory: [unlinked(directory)],
        "{dir}/gone (deleted), open for reading and writing",
    ),
}


def unlinked(directory: Path) -> int:
    number = os.open(directory / "gone", os.O_RDWR | os.O_CREAT)
    os.unlink(directory / "gone")
    return number


@contextmanager
def made(kinds: list[str], directory: Path) -> Iterator[dict[int, Kind]]:
    """Open them all; close them all at the end."""
    (directory / "file").touch()
    found: dict[int, Kind] = {}
    try:
        for name in kinds:
            found |= dict.fromkeys(KINDS[name].make(directory), KINDS[name])
        yield found
    finally:
        for number in found:
            os.close(number)


@contextmanager
def other_process() -> Iterator[int]:
    """A child with a copy of this table; it keeps it until the end."""
    with pipe() as (reading, writing):
        pid = os.fork()
        if pid == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        try:
            yield pid
        finally:
            os.close(writing)
            os.waitpid(pid, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=8),
    inheritable=st.sets(st.integers(0, 15)),
    elsewhere=st.booleans(),
)
def test_it_says_what_was_opened(
    kinds: list[str], inheritable: set[int], elsewhere: bool, tmp_path: Path
) -> None:
    before = set(numbers(os.getpid()))
    with made(kinds, tmp_path) as expected:
        for index, number in enumerate(expected):
            os.set_inheritable(number, index in inheritable)
        if elsewhere:
            with other_process() as pid:
                found = snapshot(pid)
        else:
            found = snapshot(os.getpid())
        fresh = {number: one for number, one in found.items() if number in expected}

        assert set(expected) == set(fresh)
        assert set(found) >= before
        if not elsewhere:
            assert set(found) == before | set(expected)
        for index, (number, kind) in enumerate(expected.items()):
            one = fresh[number]
            assert one.number == number
            assert one.what == kind.what.format(dir=tmp_path)
            assert one.close_on_exec == (index not in inheritable)
            assert one.flags & ~os.O_NONBLOCK & ~0o100000 == kind.flags
            if "fd" not in one.what and "epoll" not in one.what and "inotify" not in one.what:
                assert one.mode == os.fstat(number).st_mode


@pytest.mark.parametrize("name", KINDS)
def test_two_of_a_kind_have_the_same_words(name: str, tmp_path: Path) -> None:
    """Nothing that differs between two runs: no inode, no number, no pid."""
    with made([name, name], tmp_path) as expected:
        words = {one.what for one in snapshot(os.getpid(), expected).values()}

    assert len(words) == 1
    said = words.pop().replace(str(tmp_path), "")
    assert not re.search(r"\d|anon_inode|\[", said), said


def test_a_process_with_no_special_number(tmp_path: Path) -> None:
    """The listing's own descriptor is never in it, wherever it lands."""
    before = numbers(os.getpid())
    with made(["both"] * 3, tmp_path) as expected:
        assert numbers(os.getpid()) == tuple(sorted({*before, *expected}))
        hole = list(expected)[1]
        os.close(hole)
        assert hole not in numbers(os.getpid())
        assert hole not in snapshot(os.getpid())
        os.dup2(next(iter(expected)), hole)


def test_only_some_numbers(tmp_path: Path) -> None:
    with made(["both", "memfd"], tmp_path) as expected:
        wanted = list(expected)[1]
        assert list(snapshot(os.getpid(), [wanted, 100_000])) == [wanted]
        assert entry(os.getpid(), 100_000) is None


def test_a_process_that_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        snapshot(pid)
    assert entry(pid, 0) is None


def test_a_table_that_is_full_says_so() -> None:
    def check() -> None:
        used = numbers(os.getpid())
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(used) + 1, max(used) + 1))
        holes = [os.dup(0) for _ in range(max(used) + 1 - len(used))]
        assert len(holes) == max(used) + 1 - len(used)
        with pytest.raises(OSError, match="Too many open files"):
            snapshot(os.getpid())

    in_child(check)


@pytest.mark.requires_kernel("kcmp")
def test_same_file_in_two_processes(tmp_path: Path) -> None:
    with made(["both"], tmp_path) as expected:
        number = next(iter(expected))
        with other_process() as pid:
            assert same_file(os.getpid(), pid, number) is True
            # The same path again, but another open file.
            again = os.open(tmp_path / "file", os.O_RDWR)
            os.dup2(again, number)
            os.close(again)
            assert same_file(os.getpid(), pid, number) is False


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_where_the_kernel_does_not_say(number: int) -> None:
    def check() -> None:
        refuse({"kcmp": (number, None)})
        assert same_file(os.getpid(), os.getpid(), 0) is None

    in_child(check)


@pytest.mark.parametrize(
    ("target", "mode", "flags", "what"),
    [
        ("socket:[1]", 0, os.O_RDWR, "a socket"),
        ("pipe:[23]", 0, os.O_RDONLY, "the reading end of a pipe"),
        ("pipe:[23]", 0, os.O_WRONLY | os.O_NONBLOCK, "the writing end of a pipe"),
        ("pidfd:[9]", 0, os.O_RDWR, "a pidfd"),
        ("anon_inode:[pidfd]", 0, os.O_RDWR, "a pidfd"),
        ("anon_inode:[something new]", 0, os.O_RDWR, "an anonymous file (something new)"),
        ("anon_inode:seccomp notify", 0, os.O_RDWR, "a seccomp listener"),
        ("/memfd:a:b (deleted)", 0, os.O_RDWR, "the memory file 'a:b'"),
        ("/tmp/pipe:[1]", 0, os.O_RDONLY, "/tmp/pipe:[1], open for reading"),
        ("/tmp", 0o040755, os.O_RDONLY, "the directory /tmp"),
        ("/tmp", 0o040755, os.O_PATH, "/tmp, as a path only"),
    ],
)
def test_describe(target: str, mode: int, flags: int, what: str) -> None:
    assert describe(target, mode, flags) == what


def test_reading_a_snapshot_changes_nothing() -> None:
    with pipe() as (reading, writing):
        os.write(writing, b"x")
        snapshot(os.getpid())
        assert select.select([reading], [], [], 0)[0]
        assert os.read(reading, 1) == b"x"
