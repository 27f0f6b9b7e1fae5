"""Files: open file descriptions, to which descriptors, messages and calls have references."""

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from fdproof.model._failure import failure

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel

__all__ = ["File", "Watcher"]

READABLE = 0x41
"""POLLIN and POLLRDNORM."""

WRITABLE = 0x104
"""POLLOUT and POLLWRNORM."""


class Watcher(Protocol):
    """Who hears of a file's events: an epoll registration."""

    def woken(self, events: int) -> None:
        """Hear that something changed; 0 stands for anything."""

    def file_gone(self) -> None:
        """Hear that the last reference was dropped."""


class File:
    """An open file description: offset, status flags, and what is behind it.

    A subclass is a kind of file. ``read``, ``write``, ``seek`` and ``poll`` are its operations; they
    change nothing when they raise. Whoever makes one has the first reference and gives it to a
    table, or back by ``kernel.fput``.

    Args:
        kernel: where it lives.
        flags: the status flags, as F_GETFL shows them.

    Raises:
        OSError: ENFILE, the kernel has as many files as ``file_max`` allows.
    """

    can_poll = True
    """Whether epoll takes it; ordinary files and directories are always ready."""

    settable = os.O_APPEND | os.O_NONBLOCK | os.O_NOATIME
    """The flags that F_SETFL changes; with O_ASYNC and O_DIRECT for files that know them."""

    owner = 0
    """Who owns what is behind the file, and may set O_NOATIME; root, for inodes without a name."""

    created = False
    """Whether the open that made this file made what is behind it, too."""

    def __init__(self, kernel: "Kernel", flags: int) -> None:
        self.kernel = kernel
        self.flags = flags
        self.offset = 0
        self.references = 1
        self.watchers: list[Watcher] = []
        self.owner = 0
        """Who owns what is behind the file, and so may set O_NOATIME; root, if it has no inode of its own."""
        self.serial = kernel.enter(self)

    @property
    def is_path(self) -> bool:
        """Whether it only names a place (O_PATH)."""
        return bool(self.flags & os.O_PATH)

    def read(self, count: int) -> bytes:
        """Return up to count bytes."""
        raise failure(errno.EINVAL)

    def write(self, data: bytes) -> int:
        """Take bytes in and return how many."""
        raise failure(errno.EINVAL)

    def seek(self, offset: int, whence: int) -> int:
        """Move the offset and return it."""
        raise failure(errno.ESPIPE)

    def poll(self) -> int:
        """Return the events that there are now."""
        return READABLE | WRITABLE

    def fcntl(self, command: int, argument: int) -> int:
        """Carry out a command that only this kind of file knows."""
        raise failure(errno.EINVAL)

    def holds(self) -> Iterator["File"]:
        """Yield the files to which this one has references, once for each."""
        return iter(())

    def release(self) -> None:
        """Let go of everything: the last reference was dropped."""

    def wake(self, events: int) -> None:
        """Tell the watchers that there may be these events; 0 for any."""
        for watcher in tuple(self.watchers):
            watcher.woken(events)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.serial}>"
