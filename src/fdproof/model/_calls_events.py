"""The calls that make event files and memory files, and those on epoll."""

import errno
import os

from fdproof.model._caller import Caller, system_call
from fdproof.model._epoll import EpollFile
from fdproof.model._eventfd import EFD_SEMAPHORE, EventFile
from fdproof.model._failure import failure
from fdproof.model._memfd import MEMFD_FLAGS, MFD_CLOEXEC, MFD_EXEC, MFD_NOEXEC_SEAL, MemoryFile

__all__ = ["EventCalls"]

_LONGEST_NAME = 249


class EventCalls(Caller):
    """eventfd2, memfd_create, epoll_create1, epoll_ctl, epoll_wait."""

    @system_call
    def eventfd2(self, initial: int = 0, flags: int = 0) -> int:
        """Make a counter.

        Args:
            initial: its value, 32 bits.
            flags: EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE.

        Raises:
            OSError: EINVAL, unknown flags; EMFILE, ENFILE.

        Kernel:
            eventfd(2).
        """
        if flags & ~(os.O_CLOEXEC | os.O_NONBLOCK | EFD_SEMAPHORE):
            raise failure(errno.EINVAL)
        return self.publish(lambda: EventFile(self.kernel, initial, flags), flags & os.O_CLOEXEC)

    @system_call
    def memfd_create(self, name: str = "m", flags: int = 0) -> int:
        """Make a file in memory that has no path.

        Args:
            name: at most 249 bytes.
            flags: MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL or MFD_EXEC.

        Raises:
            OSError: EINVAL, unknown flags, both of the last two, or too long a name; EMFILE, ENFILE.

        Kernel:
            memfd_create(2).
        """
        if flags & ~MEMFD_FLAGS or (flags & MFD_EXEC and flags & MFD_NOEXEC_SEAL):
            raise failure(errno.EINVAL)
        if len(os.fsencode(name)) > _LONGEST_NAME:
            raise failure(errno.EINVAL)
        return self.publish(
            lambda: MemoryFile(self, flags), os.O_CLOEXEC if flags & MFD_CLOEXEC else 0
        )

    @system_call
    def epoll_create1(self, flags: int = 0) -> int:
        """Make a set of registrations.

        Raises:
            OSError: EINVAL, flags other than EPOLL_CLOEXEC; EMFILE, ENFILE.

        Kernel:
            epoll_create(2).
        """
        if flags & ~os.O_CLOEXEC:
            raise failure(errno.EINVAL)
        return self.publish(lambda: EpollFile(self.kernel), flags)

    @system_call
    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: int = 0) -> None:
        """Register interest in a file, change it, or end it.

        The registration belongs to number *and* file. It lives as long as the file, whatever becomes
        of the number.

        Args:
            epfd: the epoll.
            op: EPOLL_CTL_ADD (1), EPOLL_CTL_DEL (2), EPOLL_CTL_MOD (3).
            fd: the descriptor.
            events: EPOLLIN, EPOLLOUT, ..., EPOLLET, EPOLLONESHOT, EPOLLEXCLUSIVE.
            data: what epoll_wait gives back.

        Raises:
            OSError: EBADF, one of the two is not open; EPERM, the file cannot be polled (regular
                files, directories); EINVAL, epfd is no epoll or is fd itself, unknown op, wrong use
                of EPOLLEXCLUSIVE; ELOOP, epolls watching each other, or more than five in a row;
                EEXIST; ENOENT.

        Kernel:
            epoll_ctl(2).
        """
        epoll = self.fget(epfd)
        try:
            file = self.fget(fd)
            try:
                if not file.can_poll:
                    raise failure(errno.EPERM)
                if file is epoll or not isinstance(epoll, EpollFile):
                    raise failure(errno.EINVAL)
                epoll.control(op, file, fd, events, data)
            finally:
                self.kernel.fput(file)
        finally:
            self.kernel.fput(epoll)

    @system_call
    def epoll_wait(self, epfd: int, count: int = 64) -> list[tuple[int, int]]:
        """Return what is ready now, without waiting.

        Args:
            epfd: the epoll.
            count: at most so many.

        Returns:
            ``(data, events)``, in the kernel's order.

        Raises:
            OSError: EBADF, not open; EINVAL, no epoll, or a count below 1.

        Kernel:
            epoll_wait(2).
        """
        epoll = self.fget(epfd)
        try:
            if count <= 0 or not isinstance(epoll, EpollFile):
                raise failure(errno.EINVAL)
            return epoll.harvest(count)
        finally:
            self.kernel.fput(epoll)
