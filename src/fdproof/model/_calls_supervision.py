"""The calls of the seccomp notifier."""

import errno
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fdproof.model._caller import Caller, system_call
from fdproof.model._epoll import EpollFile
from fdproof.model._failure import failure
from fdproof.model._notifier import SEND, SETFD, SYNC_WAKE_UP, Filter, Listener, Notification

if TYPE_CHECKING:
    pass

__all__ = ["SupervisionCalls"]

TSYNC, LOG, SPEC_ALLOW, NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV = 1, 2, 4, 8, 16, 32
_KNOWN = TSYNC | LOG | SPEC_ALLOW | NEW_LISTENER | TSYNC_ESRCH | WAIT_KILLABLE_RECV


class SupervisionCalls(Caller):
    """seccomp with a listener, and the listener's ioctls.

    A call that a filter stops is made with ``begin``; made directly it raises Blocked, since
    nobody else can act meanwhile. What a supervisor does has happened when its call returns, so
    that the errnos of a race are left out: EBUSY and ESRCH of an ADDFD that the target has not
    carried out yet.
    """

    @system_call
    def seccomp(self, calls: Iterable[str], flags: int = 0) -> int:
        """Have a filter from now on that stops these calls, and tasks that descend from this one too.

        Privilege is not asked for: the task counts as one with no_new_privs.

        Args:
            calls: names of methods of Task.
            flags: besides NEW_LISTENER, which goes without saying: TSYNC with TSYNC_ESRCH,
                WAIT_KILLABLE_RECV, LOG, SPEC_ALLOW.

        Returns:
            The number of the listener, close-on-exec.

        Raises:
            OSError: EINVAL, unknown flags, or TSYNC without TSYNC_ESRCH; EMFILE, ENFILE; EBUSY, a
                filter of the task has a listener already; ESRCH, with TSYNC a sibling has filters of
                its own.

        Kernel:
            5.0, seccomp(2), seccomp_unotify(2).
        """
        flags |= NEW_LISTENER
        if flags & ~_KNOWN or (flags & TSYNC and not flags & TSYNC_ESRCH):
            raise failure(errno.EINVAL)
        seccomp_filter = Filter(calls)
        return self.publish(
            lambda: self._listening(seccomp_filter, to_all=bool(flags & TSYNC)), os.O_CLOEXEC
        )

    def _listening(self, seccomp_filter: Filter, *, to_all: bool) -> Listener:
        """Return a listener of a filter that was attached."""
        listener = Listener(self.kernel, seccomp_filter)
        try:
            self._attach(seccomp_filter, to_all=to_all)
        except OSError:
            self.kernel.fput(listener)
            raise
        seccomp_filter.listener = listener
        return listener

    def _attach(self, seccomp_filter: Filter, *, to_all: bool) -> None:
        if any(known.listener is not None for known in self.filters):
            raise failure(errno.EBUSY)
        threads = self.process.threads if to_all else [self]
        if any(thread.filters != self.filters[: len(thread.filters)] for thread in threads):
            raise failure(errno.ESRCH)
        filters = [*self.filters, seccomp_filter]
        for thread in threads:
            for added in filters[len(thread.filters) :]:
                added.join()
            thread.filters = filters.copy()

    @system_call
    def notif_recv(self, fd: int) -> Notification:
        """Take the oldest notification.

        Raises:
            OSError: EBADF; ENOTTY, no listener (EINVAL from an epoll); ENOENT, the filter has no task.
            Blocked: there is none yet.
        """
        listener = self._listener(fd)
        return self.operate(listener, listener.receive)

    @system_call
    def notif_send(
        self, fd: int, id: int, *, value: int = 0, error: int = 0, flags: int = 0
    ) -> None:
        """Answer a call.

        Args:
            fd: the listener.
            id: the notification's.
            value: what the call returns.
            error: or the errno with which it fails, as a positive number.
            flags: CONTINUE (1), to let the call run.

        Raises:
            OSError: EBADF, ENOTTY; EINVAL, unknown flags, CONTINUE with an answer; ENOENT, nothing
                waits under this id; EINPROGRESS, it was not received yet.
        """
        listener = self._listener(fd)
        self.operate(listener, lambda: listener.send(id, value=value, error=error, flags=flags))

    @system_call
    def notif_id_valid(self, fd: int, id: int) -> None:
        """Return quietly if a received call still waits.

        Raises:
            OSError: EBADF; ENOTTY, no listener (EINVAL from an epoll); ENOENT, it does not.
        """
        listener = self._listener(fd)
        if not self.operate(listener, lambda: listener.valid(id)):
            raise failure(errno.ENOENT)

    @system_call
    def notif_addfd(
        self,
        fd: int,
        id: int,
        srcfd: int,
        *,
        flags: int = 0,
        newfd: int = 0,
        newfd_flags: int = 0,
    ) -> int:
        """Put a file of this task into the table of the one that waits.

        Args:
            fd: the listener.
            id: the notification's.
            srcfd: the descriptor here.
            flags: SETFD (1), at number ``newfd``; SEND (2), answer the call with the number.
            newfd: the number, with SETFD.
            newfd_flags: O_CLOEXEC.

        Returns:
            The number there.

        Raises:
            OSError: EBADF, ENOTTY; EINVAL, flags; EBADF, srcfd is not open, or O_PATH; ENOENT,
                EINPROGRESS as for notif_send; EMFILE, EBADF, EBUSY of the target's table.

        Kernel:
            5.9; SEND 5.14; seccomp_unotify(2).
        """
        listener = self._listener(fd)
        return self.operate(
            listener, lambda: self._add(listener, id, srcfd, flags, newfd, newfd_flags)
        )

    def _add(
        self, listener: Listener, id: int, srcfd: int, flags: int, newfd: int, newfd_flags: int
    ) -> int:
        unknown = newfd_flags & ~os.O_CLOEXEC or flags & ~(SETFD | SEND)
        if unknown or (newfd and not flags & SETFD):
            raise failure(errno.EINVAL)
        source = self.fget(srcfd)
        return self.operate(
            source,
            lambda: listener.add(
                source, id, flags=flags, number=newfd, close_on_exec=bool(newfd_flags)
            ),
        )

    @system_call
    def notif_set_flags(self, fd: int, flags: int) -> None:
        """Choose how notifications are delivered (SYNC_WAKE_UP; the model knows no difference).

        Raises:
            OSError: EBADF, ENOTTY; EINVAL, unknown flags.

        Kernel:
            6.6.
        """
        self.kernel.fput(self._listener(fd))
        if flags & ~SYNC_WAKE_UP:
            raise failure(errno.EINVAL)

    def _listener(self, fd: int) -> Listener:
        """Return the listener behind a number, with a reference for the caller."""
        file = self.fget(fd)
        if isinstance(file, Listener):
            return file
        self.kernel.fput(file)
        raise failure(errno.EINVAL if isinstance(file, EpollFile) else errno.ENOTTY)
