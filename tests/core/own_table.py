"""This process's table as the tests see it: by asking the kernel about each number."""

import errno
import fcntl
import os
from typing import NamedTuple

LARGEST = 256


class Open(NamedTuple):
    """What a number refers to."""

    device: int
    inode: int
    close_on_exec: bool


def entry(number: int) -> Open | None:
    """What ``number`` refers to; None when it is free."""
    try:
        flags = fcntl.fcntl(number, fcntl.F_GETFD)
        status = os.fstat(number)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None
    return Open(status.st_dev, status.st_ino, bool(flags & fcntl.FD_CLOEXEC))


def table() -> dict[int, Open]:
    """The whole table, as far as tests fill it: number by number, since a full one lists nothing."""
    return {number: found for number in range(LARGEST) if (found := entry(number)) is not None}


def lowest_free(start: int = 0) -> int:
    """The number that the kernel gives next, from ``start`` on."""
    while entry(start) is not None:
        start += 1
    return start
