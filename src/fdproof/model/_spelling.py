"""How a report spells calls: flags by their names, files and tasks as they are known elsewhere."""

import fcntl
import os
import signal
from collections.abc import Mapping
from typing import Any

__all__ = ["result_of", "spelling_of"]


_OPEN = {
    getattr(os, name): name
    for name in (
        *("O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_NONBLOCK"),
        *("O_DIRECT", "O_DIRECTORY", "O_NOFOLLOW", "O_NOATIME", "O_CLOEXEC", "O_PATH"),
    )
}
_CLONE = {
    0x100: "CLONE_VM",
    0x200: "CLONE_FS",
    0x400: "CLONE_FILES",
    0x800: "CLONE_SIGHAND",
    0x1000: "CLONE_PIDFD",
    0x10000: "CLONE_THREAD",
}
_RANGE = {2: "CLOSE_RANGE_UNSHARE", 4: "CLOSE_RANGE_CLOEXEC"}
_MEMFD = {1: "MFD_CLOEXEC", 2: "MFD_ALLOW_SEALING"}
_COMMANDS = {
    value: name
    for name, value in vars(fcntl).items()
    if name in ("F_DUPFD", "F_DUPFD_CLOEXEC", "F_GETFD", "F_SETFD", "F_GETFL", "F_SETFL")
} | {1027: "F_DUPFD_QUERY", 1028: "F_CREATED_QUERY"}

# Which argument of a call has the flags, counted from 0, and what they are called.
_FLAGS: dict[str, tuple[int, dict[int, str]]] = {
    "open": (1, _OPEN),
    "openat": (2, _OPEN),
    "dup3": (2, _OPEN),
    "pipe2": (0, _OPEN),
    "eventfd2": (1, _OPEN),
    "epoll_create1": (0, _OPEN),
    "memfd_create": (1, _MEMFD),
    "close_range": (2, _RANGE),
    "clone": (0, _CLONE),
    "unshare": (0, _CLONE),
    "get_unused_fd_flags": (0, _OPEN),
    "anon_inode_getfile": (1, _OPEN),
}


def spelling_of(call: str, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> str:
    """Return a call as a line of a report has it.

    Args:
        call: its name.
        arguments, options: what it is given.
    """
    at, names = _FLAGS.get(call, (-1, {}))
    given = [
        _flags(argument, names) if index == at else _argument(call, index, argument)
        for index, argument in enumerate(arguments)
    ]
    given += [
        f"{name}={_flags(value, names) if name == 'flags' else repr(value)}"
        for name, value in options.items()
    ]
    return f"{call}({', '.join(given)})"


def result_of(result: object) -> str:
    """Return what a call returned, as a line of a report has it; empty for nothing."""
    return "" if result is None else repr(result)


def _argument(call: str, index: int, argument: object) -> str:
    if call == "fcntl" and index == 1 and argument in _COMMANDS:
        return _COMMANDS[argument]
    if call in ("kill", "pidfd_send_signal") and index == 1 and isinstance(argument, int):
        return _signal(argument)
    return repr(argument)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _flags(value: object, names: Mapping[int, str]) -> str:
    if not isinstance(value, int) or value <= 0:
        return repr(value)
    known = [name for bit, name in names.items() if value & bit]
    rest = value & ~sum(bit for bit in names if value & bit)
    if not known:
        return repr(value)
    return "|".join([*known, *([hex(rest)] if rest else [])])
