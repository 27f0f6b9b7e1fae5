"""Signals, as far as descriptors are concerned: they end processes, or do nothing."""

import errno
import signal as names

from fdproof.model._caller import Caller, system_call
from fdproof.model._failure import failure
from fdproof.model._process import Process

__all__ = ["SignalCalls"]

_HARMLESS = {0, names.SIGCHLD, names.SIGCONT, names.SIGURG, names.SIGWINCH}
_STOPPING = {names.SIGSTOP, names.SIGTSTP, names.SIGTTIN, names.SIGTTOU}
_LAST = 64


class SignalCalls(Caller):
    """kill. No process has handlers, none is stopped or dumps core, and there are no groups."""

    @system_call
    def kill(self, pid: int, signal: int) -> None:
        """Send a signal to a process.

        Args:
            pid: the process, or one of its threads.
            signal: 0 only asks whether it could be sent.

        Raises:
            OSError: ESRCH, no such process; EINVAL, no such signal; EPERM, one of another user.
            NotImplementedError: a process group, or a signal that stops.

        Kernel:
            kill(2).
        """
        if pid <= 0:
            raise NotImplementedError("pid: the model has no process groups")
        process = self.kernel.processes.get(pid)
        if process is None and pid in self.kernel.tasks:
            process = self.kernel.tasks[pid].process
        if process is None:
            raise failure(errno.ESRCH)
        self.send_signal(process, signal)

    def send_signal(self, process: Process, signal: int) -> None:
        """Send a signal to a process that was found.

        Raises:
            OSError: EINVAL, EPERM, as for ``kill``.
        """
        if not 0 <= signal <= _LAST:
            raise failure(errno.EINVAL)
        if self.uid not in (0, process.uid):
            raise failure(errno.EPERM)
        if signal in _STOPPING:
            raise NotImplementedError("signal: the model stops no process")
        if signal in _HARMLESS or not process.threads:
            return
        process.group_status = signal
        for thread in tuple(process.threads):
            thread.end(signal)
