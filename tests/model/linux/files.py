"""Calls on files, on the table, and on who waits for files."""

import fcntl
import os
import struct

from tests.model.linux.calling import Caller, nothing

__all__ = ["FileCalls"]

EVERY_EVENT = 0x3FF | 0x2000


class FileCalls(Caller):
    """The calls on files and descriptors, as methods of `fdproof.model.Task`."""

    def _noted(self, number: int) -> int:
        """Remember how far the table must be looked through."""
        self.highest = max(self.highest, number)
        return number

    def _path(self, path: str) -> int:
        if path.startswith("/"):
            path = f"{self.kernel.root}{path}"
        return self.put(os.fsencode(path) + b"\0")

    def open(self, path: str, flags: int = 0, mode: int = 0o666) -> int:
        return self.system("open", self._path(path), flags, mode)

    def openat(self, dirfd: int, path: str, flags: int = 0, mode: int = 0o666) -> int:
        return self.system("openat", dirfd, self._path(path), flags, mode)

    def mkdir(self, path: str) -> None:
        self.reading(nothing, "mkdir", self._path(path), 0o777)

    def unlink(self, path: str) -> None:
        self.reading(nothing, "unlink", self._path(path))

    def read(self, fd: int, count: int) -> bytes:
        address = self.put(b"")
        return self.reading(lambda n: self.taken(address, n), "read", fd, address, count)

    def write(self, fd: int, data: bytes) -> int:
        return self.system("write", fd, self.put(data), len(data))

    def lseek(self, fd: int, offset: int, whence: int = 0) -> int:
        return self.system("lseek", fd, offset, whence)

    def memfd_create(self, name: str = "m", flags: int = 0) -> int:
        return self.system("memfd_create", self.put(os.fsencode(name) + b"\0"), flags)

    def eventfd2(self, initial: int = 0, flags: int = 0) -> int:
        return self.system("eventfd2", initial, flags)

    def pipe2(self, flags: int = 0) -> tuple[int, int]:
        address = self.put(bytes(8))
        return self.reading(self.pair(address), "pipe2", address, flags)

    # -- the table

    def close(self, fd: int) -> None:
        self.reading(nothing, "close", fd)

    def dup(self, fd: int) -> int:
        return self.system("dup", fd)

    def dup2(self, old: int, new: int) -> int:
        return self.reading(self._noted, "dup2", old, new)

    def dup3(self, old: int, new: int, flags: int = 0) -> int:
        return self.reading(self._noted, "dup3", old, new, flags)

    def fcntl(self, fd: int, command: int, argument: int = 0) -> int:
        copies = command in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC)
        return self.reading(self._noted if copies else int, "fcntl", fd, command, argument)

    def close_range(self, first: int, last: int, flags: int = 0) -> None:
        self.reading(nothing, "close_range", first, last, flags)

    # -- waiting for files

    def epoll_create1(self, flags: int = 0) -> int:
        return self.system("epoll_create1", flags)

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: int = 0) -> None:
        event = self.put(struct.pack("=IQ", events, data))
        self.reading(nothing, "epoll_ctl", epfd, op, fd, event)

    def epoll_wait(self, epfd: int, count: int = 64) -> list[tuple[int, int]]:
        address = self.put(bytes(12 * max(count, 0)))

        def events(found: int) -> list[tuple[int, int]]:
            pairs = struct.iter_unpack("=IQ", self.taken(address, 12 * found))
            return [(data, events) for events, data in pairs]

        return self.reading(events, "epoll_wait", epfd, address, count, 0)

    def poll(self, fd: int) -> int:
        address = self.put(struct.pack("=ihh", fd, EVERY_EVENT, 0))
        return self.reading(
            lambda _: int(struct.unpack("=6xH", self.taken(address, 8))[0]), "poll", address, 1, 0
        )
