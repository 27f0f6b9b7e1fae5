"""open, path by path and flag by flag: the model beside the running kernel."""

import errno
import fcntl
import itertools
import os
from collections.abc import Callable
from typing import Any

import pytest

from fdproof.model import Kernel, Task
from tests.model.linux.kernel import RealKernel

PATHS = [
    "", ".", "./", "..", "f", "./f", "f/", "//f", "/f", "f/x", "f/.", "f/..", "d", "d/", "d/.", "d/./f",
    "d/../f", "d//f", "d/f/", "d/none", "none", "none/", "none/x", "private", "d/private", "unreadable",
    "x" * 255, "x" * 256, "x" * 256 + "/x", "none/" + "x" * 256, "f/" + "x" * 256, "y/" * 2047 + "y",
    "y/" * 2048, "./" * 2047 + "f", "d/" + "./" * 2046 + "f",
]  # fmt: skip

FLAGS = [
    0, os.O_WRONLY, os.O_RDWR, 3, os.O_CREAT, os.O_CREAT | os.O_RDWR, os.O_CREAT | os.O_EXCL,
    os.O_CREAT | os.O_WRONLY | os.O_TRUNC, os.O_TRUNC, os.O_TRUNC | os.O_WRONLY, os.O_TRUNC | os.O_EXCL,
    os.O_DIRECTORY, os.O_DIRECTORY | os.O_RDWR, os.O_DIRECTORY | os.O_CREAT,
    os.O_DIRECTORY | os.O_CREAT | os.O_EXCL, os.O_PATH, os.O_PATH | os.O_RDWR | os.O_CREAT | os.O_APPEND,
    os.O_PATH | os.O_DIRECTORY, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, os.O_APPEND | os.O_RDWR,
    os.O_NONBLOCK, os.O_ASYNC, os.O_DIRECT, os.O_NOATIME, os.O_NOATIME | os.O_CREAT,
    os.O_SYNC, os.O_DSYNC | os.O_RDWR, os.O_NOCTTY, os.O_NOFOLLOW, os.O_TMPFILE,
    os.O_TMPFILE | os.O_RDWR, os.O_TMPFILE | os.O_WRONLY | os.O_EXCL, os.O_TMPFILE | os.O_CREAT | os.O_RDWR,
    os.O_TMPFILE & ~os.O_DIRECTORY, (os.O_TMPFILE & ~os.O_DIRECTORY) | os.O_RDWR,
    os.O_TMPFILE | os.O_PATH, 1 << 30, os.O_CREAT | os.O_DIRECT | os.O_WRONLY, 0o100000,
    os.O_CREAT | os.O_TRUNC, os.O_TRUNC | 3, os.O_CREAT | os.O_APPEND | 3,
]  # fmt: skip


def scene(kernel: Any, uid: int) -> Any:
    """A task of this user before a small tree, with 0 the root, 1 a directory, 2 a file, 3 a place."""
    root = kernel.spawn()
    root.mkdir("d")
    for path, mode in (
        ("f", 0o666), ("d/f", 0o666), ("private", 0o600), ("d/private", 0o600), ("unreadable", 0o222),
    ):  # fmt: skip
        number = root.open(path, os.O_CREAT | os.O_WRONLY, mode)
        root.write(number, b"contents")
        root.close(number)
    task = kernel.spawn(uid=uid)
    assert [
        task.open(".", os.O_DIRECTORY),
        task.open("d", os.O_DIRECTORY),
        task.open("f"),
        task.open("d", os.O_PATH),
    ] == [0, 1, 2, 3]
    return task


def outcome(task: Any, dirfd: int, path: str, flags: int) -> object:
    """What an open comes to: its errno, or all that can be asked about what it made."""
    try:
        number = task.openat(dirfd, path, flags, 0o640)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    found = [number, *(task.fcntl(number, asked) for asked in (fcntl.F_GETFD, fcntl.F_GETFL, 1028))]
    asks: list[Callable[[], Any]] = [
        lambda: task.lseek(number, 0, os.SEEK_END),
        lambda: task.read(number, 3),
        lambda: task.write(number, b""),
        lambda: task.fcntl(number, fcntl.F_SETFL, os.O_DIRECT),
        lambda: task.fcntl(number, fcntl.F_SETFL, os.O_NOATIME | os.O_ASYNC | os.O_APPEND),
    ]
    for ask in asks:
        try:
            found.append(ask())
        except OSError as error:
            found.append(errno.errorcode[error.errno or 0])
    found.append(task.fcntl(number, fcntl.F_GETFL))
    task.close(number)
    return found


@pytest.mark.root
@pytest.mark.parametrize("uid", [0, 5])
def test_every_path_with_every_flag_is_opened_as_linux_opens_it(
    real_kernel: RealKernel, uid: int
) -> None:
    model, linux = scene(Kernel(), uid), scene(real_kernel, uid)
    places = [(-100, path) for path in PATHS]
    places += [(dirfd, path) for dirfd in (1, 2, 3, 9, -1) for path in ("", "f", "/f", ".", "none")]

    differences = [
        (dirfd, path[:20], oct(flags), ours, theirs)
        for (dirfd, path), flags in itertools.product(places, FLAGS)
        # What is above the root is the machine's, not the test's.
        if path != ".." and "d/../" not in path
        if (ours := outcome(model, dirfd, path, flags))
        != (theirs := outcome(linux, dirfd, path, flags))
    ]

    assert differences == []


PARENTS = ["d/..", "d/../f", "d/../../f", "..", "d/../d/./../f"]


@pytest.mark.parametrize("path", PARENTS)
def test_two_dots_lead_up_and_end_at_the_root(path: str) -> None:
    task: Task = scene(Kernel(), 0)
    number = task.open(path, os.O_PATH)
    directory = not path.endswith("f")

    assert bool(task.openat(number, "d/f") if directory else task.dup(number))


def test_a_full_table_makes_no_file() -> None:
    task = Kernel().spawn(rlimit_nofile=0)

    with pytest.raises(OSError, match="Too many open files"):
        task.open("f", os.O_CREAT)

    task.setrlimit(1)
    with pytest.raises(OSError, match="No such file"):
        task.open("f")
    assert task.files.reserved() == []


def test_what_is_unlinked_lives_as_long_as_it_is_open() -> None:
    task: Task = scene(Kernel(), 0)
    number = task.open("d/f", os.O_RDWR)
    task.unlink("d/f")

    with pytest.raises(OSError, match="No such file"):
        task.open("d/f")
    assert task.read(number, 20) == b"contents"


@pytest.mark.parametrize(
    ("call", "path", "number"),
    [
        ("mkdir", "d", errno.EEXIST), ("mkdir", "f", errno.EEXIST), ("mkdir", ".", errno.EEXIST),
        ("mkdir", "d/", errno.EEXIST), ("mkdir", "f/x", errno.ENOTDIR), ("mkdir", "none/x", errno.ENOENT),
        ("mkdir", "", errno.ENOENT), ("mkdir", "x" * 256, errno.ENAMETOOLONG), ("mkdir", "new", errno.EACCES),
        ("unlink", "d", errno.EACCES), ("unlink", "d/", errno.EISDIR), ("unlink", ".", errno.EISDIR),
        ("unlink", "f/", errno.ENOTDIR), ("unlink", "none", errno.ENOENT), ("unlink", "f", errno.EACCES),
        ("unlink", "none/", errno.ENOENT), ("unlink", "f/x", errno.ENOTDIR), ("unlink", "", errno.ENOENT),
    ],
)  # fmt: skip
def test_names_are_made_and_removed_as_linux_lets_one(
    kernel: Any, call: str, path: str, number: int
) -> None:
    task = scene(kernel, 5)

    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        getattr(task, call)(path)

    assert caught.value.errno == number
