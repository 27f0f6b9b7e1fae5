"""A table with no free number, or just as many as a test wants: only inside ``in_child``."""

import errno
import os
import resource

from tests.core.own_table import table


def limit(room: int) -> None:
    """Lower RLIMIT_NOFILE so that ``room`` numbers are free, counted from the lowest."""
    used = table()
    size = 0
    while size - len([number for number in used if number < size]) < room:
        size += 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (size, hard))


def fill(leave: int = 0) -> list[int]:
    """Open until the table is full, then close ``leave`` of them again."""
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017  # the loop ends with it
            break
    for _ in range(leave):
        os.close(taken.pop())
    return taken


def is_full() -> bool:
    try:
        os.close(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return error.errno == errno.EMFILE
    return False
