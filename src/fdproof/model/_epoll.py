"""epoll: registrations keyed by number *and* file, and a list of those that may be ready."""

import errno
import os
from typing import TYPE_CHECKING

from fdproof.model._failure import failure
from fdproof.model._file import File

if TYPE_CHECKING:
    from fdproof.model._kernel import Kernel

__all__ = ["EpollFile"]

ADD, DELETE, MODIFY = 1, 2, 3
_IN, _OUT, _ERROR, _HUP, _READABLE = 0x1, 0x4, 0x8, 0x10, 0x41
_EXCLUSIVE, _WAKEUP, _ONESHOT, _EDGE = 1 << 28, 1 << 29, 1 << 30, 1 << 31
_PRIVATE = _EXCLUSIVE | _WAKEUP | _ONESHOT | _EDGE
_EXCLUSIVE_MAY_HAVE = _IN | _OUT | _ERROR | _HUP | _WAKEUP | _EDGE | _EXCLUSIVE
_DEEPEST = 4


class Registration:
    """An interest in the events of a file, under the number by which it was registered."""

    __slots__ = ("data", "epoll", "events", "file", "number")

    def __init__(self, epoll: "EpollFile", file: File, number: int, events: int, data: int) -> None:
        self.epoll = epoll
        # OWNERSHIP: none; the registration goes when the file does, not when the number does.
        self.file = file
        self.number = number
        self.events = events | _ERROR | _HUP
        self.data = data

    def pending(self) -> int:
        """Return the events of interest that the file has now."""
        return self.file.poll() & self.events

    def woken(self, events: int) -> None:
        """Hear from the file that something changed; 0 stands for anything."""
        if self.events & ~_PRIVATE and (not events or events & self.events):
            self.epoll.enlist(self)

    def file_gone(self) -> None:
        """Hear from the file that its last reference was dropped."""
        self.epoll.forget(self)


class EpollFile(File):
    """The file of epoll_create1(2)."""

    def __init__(self, kernel: "Kernel") -> None:
        super().__init__(kernel, os.O_RDWR)
        self.registrations: dict[tuple[File, int], Registration] = {}
        # INVARIANT: in the order in which they became ready; who is in it need not be so any more.
        self._ready: dict[Registration, None] = {}

    def control(self, operation: int, file: File, number: int, events: int, data: int) -> None:
        """Change the registrations, as epoll_ctl(2) does once both files are known.

        Raises:
            OSError: EINVAL, ELOOP, EEXIST, ENOENT.
        """
        if operation in (ADD, MODIFY) and events & _EXCLUSIVE:
            impossible = isinstance(file, EpollFile) or events & ~_EXCLUSIVE_MAY_HAVE
            if operation == MODIFY or impossible:
                raise failure(errno.EINVAL)
        if operation == ADD and isinstance(file, EpollFile) and self._too_deep(file):
            raise failure(errno.ELOOP)
        known = self.registrations.get((file, number))
        if operation == ADD:
            if known:
                raise failure(errno.EEXIST)
            self.kernel.fallible("ep_insert", errno.ENOMEM)
            known = Registration(self, file, number, events, data)
            self.registrations[file, number] = known
            # KERNEL: the latest to ask is the first to hear.
            file.watchers.insert(0, known)
        elif operation not in (DELETE, MODIFY):
            raise failure(errno.EINVAL)
        elif not known:
            raise failure(errno.ENOENT)
        elif operation == DELETE:
            file.watchers.remove(known)
            self.forget(known)
            return
        elif known.events & _EXCLUSIVE:
            raise failure(errno.EINVAL)
        else:
            known.events = events | _ERROR | _HUP
            known.data = data
        if known.pending():
            self.enlist(known)

    def harvest(self, count: int) -> list[tuple[int, int]]:
        """Return up to count registrations that are ready, as (data, events), in the kernel's order."""
        found: list[tuple[int, int]] = []
        candidates, again = list(self._ready), []
        while candidates and len(found) < count:
            registration = candidates.pop(0)
            if events := registration.pending():
                found.append((registration.data, events))
                if registration.events & _ONESHOT:
                    registration.events &= _PRIVATE
                elif not registration.events & _EDGE:
                    again.append(registration)
        # KERNEL: who was reported goes behind those that had no turn, so nobody starves.
        self._ready = dict.fromkeys(candidates + again)
        return found

    def enlist(self, registration: Registration) -> None:
        """Note that a registration may be ready."""
        self._ready.setdefault(registration)
        self.wake(_READABLE)

    def forget(self, registration: Registration) -> None:
        """Drop a registration."""
        del self.registrations[registration.file, registration.number]
        self._ready.pop(registration, None)

    def poll(self) -> int:
        while self._ready:
            first = next(iter(self._ready))
            if first.pending():
                return _READABLE
            del self._ready[first]
        return 0

    def read(self, count: int) -> bytes:
        raise failure(errno.EINVAL)

    def write(self, data: bytes) -> int:
        raise failure(errno.EINVAL)

    def seek(self, offset: int, whence: int) -> int:
        return self.offset

    def release(self) -> None:
        for registration in self.registrations.values():
            registration.file.watchers.remove(registration)
        self.registrations.clear()
        self._ready.clear()

    # -- nesting

    def _too_deep(self, other: "EpollFile") -> bool:
        """Say whether registering the other here would make a loop, or a chain that is too long."""
        below = other._depth(self, 0)
        return below > _DEEPEST or below + 1 + self._height(0) > _DEEPEST

    def _depth(self, above: "EpollFile", level: int) -> int:
        """Return how many epoll files lie below; more than the deepest if the one above is among them."""
        deepest = 0
        for file, _ in self.registrations:
            if isinstance(file, EpollFile):
                if file is above or level > _DEEPEST:
                    return _DEEPEST + 1
                deepest = max(deepest, file._depth(above, level + 1) + 1)
        return deepest

    def _height(self, level: int) -> int:
        """Return how many epoll files watch this one, in the longest chain."""
        if level > _DEEPEST:
            return _DEEPEST
        watching = [watcher.epoll for watcher in self.watchers if isinstance(watcher, Registration)]
        return max((epoll._height(level + 1) + 1 for epoll in watching), default=0)
