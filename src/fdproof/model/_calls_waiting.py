"""Waiting for children."""

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fdproof.model._caller import Caller, system_call
from fdproof.model._failure import Blocked, failure
from fdproof.model._pidfd import PIDFD_NONBLOCK, PidFile

if TYPE_CHECKING:
    from fdproof.model._process import Process
    from fdproof.model._task import Task

__all__ = ["Waited", "WaitingCalls"]

_STATES = os.WEXITED | os.WSTOPPED | os.WCONTINUED
_NO_THREAD, _ALL, _CLONE = 0x20000000, 0x40000000, 0x80000000
_KNOWN = os.WNOHANG | os.WNOWAIT | _STATES | _NO_THREAD | _ALL | _CLONE


@dataclass(frozen=True, slots=True)
class Waited:
    """How a child ended: ``status`` is its exit status, or the signal, as ``code`` says."""

    pid: int
    code: int
    status: int


class WaitingCalls(Caller):
    """waitid."""

    @system_call
    def waitid(self, idtype: int, id: int, options: int) -> Waited | None:
        """Wait for a child that has ended, and reap it unless WNOWAIT says not to.

        Children that were stopped or continued are not modelled.

        Args:
            idtype: P_PID, P_PIDFD or P_ALL.
            id: the pid, or the number of the pidfd.
            options: WEXITED; with WNOHANG, WNOWAIT.

        Returns:
            None with WNOHANG, if there are such children and none has ended.

        Raises:
            OSError: EINVAL, unknown options or idtype, none of WEXITED, WSTOPPED, WCONTINUED, a pid
                below 1, a number below 0; EBADF, no pidfd; ECHILD, no such child; EAGAIN, a pidfd
                with PIDFD_NONBLOCK and no WNOHANG, and it has not ended.
            Blocked: none has ended.

        Kernel:
            waitid(2); P_PIDFD 5.4.
        """
        if options & ~_KNOWN or not options & _STATES:
            raise failure(errno.EINVAL)
        threads = self.process.threads
        mine = threads.index(cast("Task", self))
        # KERNEL: the caller's own children first, then those of the threads after it.
        asked = [self] if options & _NO_THREAD else threads[mine:] + threads[:mine]
        children = [child for one in asked for child in one.children]
        quiet = bool(options & os.WNOHANG)
        nonblocking = False
        if idtype == os.P_PID:
            if id <= 0:
                raise failure(errno.EINVAL)
            children = [child for child in children if child.pid == id]
        elif idtype == os.P_PIDFD:
            if id < 0:
                raise failure(errno.EINVAL)
            file = self.files.lookup(id)
            if not isinstance(file, PidFile):
                raise failure(errno.EBADF)
            nonblocking = bool(file.flags & PIDFD_NONBLOCK)
            children = [child for child in children if child.pid == file.pid]
        elif idtype != os.P_ALL:
            raise failure(errno.EINVAL)
        if not children:
            raise failure(errno.ECHILD)
        ended = [child for child in children if child.is_zombie] if options & os.WEXITED else []
        if ended:
            return self._collect(ended[0], reap=not options & os.WNOWAIT)
        if quiet:
            return None
        if nonblocking:
            raise failure(errno.EAGAIN)
        raise Blocked

    def _collect(self, child: "Process", *, reap: bool) -> Waited:
        status = child.status
        assert status is not None
        if os.WIFEXITED(status):
            waited = Waited(child.pid, os.CLD_EXITED, os.WEXITSTATUS(status))
        else:
            code = os.CLD_DUMPED if os.WCOREDUMP(status) else os.CLD_KILLED
            waited = Waited(child.pid, code, os.WTERMSIG(status))
        if reap:
            self.kernel.reap(child)
        return waited
