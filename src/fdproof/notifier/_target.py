"""Targets: processes whose system calls a supervisor answers."""

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn, Self

from fdproof._creating import pidfd
from fdproof._descriptor import Descriptor
from fdproof._errors import StateError
from fdproof._syscalls import prctl
from fdproof.notifier._filter import Filter
from fdproof.notifier._listener import Listener
from fdproof.notifier._start import Handover, spawn_target

__all__ = ["Target", "fork", "spawn"]

_PR_SET_PDEATHSIG = 1


class Target:
    """A supervised child, its pidfd and the listener of its filter.

    Leaving the ``with`` block kills and reaps the child, and closes both descriptors. Its own
    children get the filter too; with the listener closed, their supervised calls fail with ENOSYS.
    """

    def __init__(self, pid: int, process: Descriptor, listener: Descriptor) -> None:
        self.pid = pid
        self.process = process
        self._status: int | None = None
        try:
            self.listener = Listener(listener)
        except BaseException:
            # EMFILE: there is no room to stop it by, so there is no target.
            listener.close()
            self.kill()
            self.wait()
            process.close()
            raise

    def poll(self) -> int | None:
        """Return the exit status if the child has ended, else None: negative is a signal."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Wait for the child's end; its calls must be answered elsewhere, or it never comes.

        Returns:
            The exit status; negative is the signal that killed it.
        """
        status = self._reap(0)
        assert status is not None
        return status

    def _reap(self, options: int) -> int | None:
        if self._status is None:
            result = os.waitid(os.P_PIDFD, self.process.fileno(), os.WEXITED | options)
            if result is not None:
                killed = result.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
                self._status = -result.si_status if killed else result.si_status
        return self._status

    def kill(self) -> None:
        """Send SIGKILL; quiet when the child has ended already."""
        if self._status is None:
            signal.pidfd_send_signal(self.process.fileno(), signal.SIGKILL)

    def close(self) -> None:
        """Kill and reap the child, close the listener and the pidfd; twice is quiet."""
        if not self.process.closed:
            self.kill()
            self.wait()
        self.listener.close()
        self.process.close()

    def __enter__(self) -> Self:
        if self.process.closed:
            raise StateError("this target was closed: start another")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fdproof.notifier.Target {self.pid}>"


def fork(
    filter: Filter, function: Callable[[], Any], *, handover: Handover | None = None
) -> Target:
    """Fork a child that runs a function under a filter.

    The child dies with the calling thread. Before the function it makes futex and close, which a filter
    that names them sees. It ends with status 0 when the function returns, with 1 and
    a traceback when it raises; it runs no exit handlers.

    Args:
        filter: which of its calls stop for the supervisor.
        function: what it runs.
        handover: the page to use, for callers that fork often.

    Returns:
        The target, which owns child and listener.

    Raises:
        OSError: EAGAIN, no process; EMFILE, no descriptor; the filter is refused. No child is left.
        UnsupportedError: the kernel has no notifier (5.0), or its policy forbids pidfd_getfd.
    """
    if handover is None:
        handover = Handover()
    handover.reset()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _run(filter, function, handover, parent)
    process = None
    try:
        process = pidfd(pid)
        listener = handover.fetch(process)
    except BaseException:
        # The child is unreaped, so its pid still means it.
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if process is not None:
            process.close()
        raise
    return Target(pid, process, listener)


def _run(filter: Filter, function: Callable[[], Any], handover: Handover, parent: int) -> NoReturn:
    status = 1
    try:
        die_with_parent(parent)
        handover.enter(filter.program)
        function()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def die_with_parent(parent: int) -> None:
    """Ask for SIGKILL when the parent thread ends; end at once if it has.

    Kernel: prctl(2), PR_SET_PDEATHSIG.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def spawn(
    filter: Filter,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: str | None = None,
) -> Target:
    """Start a command under a filter; its first exec is not supervised.

    It inherits this process's inheritable descriptors and dies with the calling thread.

    Args:
        filter: which of its calls stop for the supervisor.
        arguments: the command and its arguments; the command is looked up in PATH.
        environment: its environment; this process's by default.
        directory: where it starts.

    Returns:
        The target, which owns child and listener.

    Raises:
        OSError: ENOENT, EACCES and others: it cannot be run, with the name. No child is left.
        UnsupportedError: the kernel has no notifier (5.0).
    """
    if not arguments:
        raise ValueError("arguments: names no command")
    path = shutil.which(arguments[0])
    if path is None:
        raise FileNotFoundError(2, "command not found, or not executable", arguments[0])
    if environment is None:
        variables = [name + b"=" + value for name, value in os.environb.items()]
    else:
        variables = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    pid, process, listener = spawn_target(
        filter.program,
        os.fsencode(os.path.abspath(path)),
        [os.fsencode(text) for text in arguments],
        variables,
        None if directory is None else os.fsencode(directory),
        True,
    )
    return Target(pid, process, listener)
