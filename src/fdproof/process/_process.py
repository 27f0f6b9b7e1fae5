"""Process: the owner of a pidfd and, for a child of this process, of the child."""

import errno
import os
import signal
from collections.abc import Sequence
from types import TracebackType
from typing import Literal, Self

from fdproof._creating import open as open_file
from fdproof._descriptor import Descriptor
from fdproof._errors import ClosedError, UnsupportedError
from fdproof._flags import FileFlags
from fdproof.process import _info, _refusal
from fdproof.process._child import Child
from fdproof.process._exchange import Exchange
from fdproof.process._opening import open_pidfd
from fdproof.process._records import Info, Namespace
from fdproof.process._tree import kill_tree

__all__ = ["Process", "Scope", "nanoseconds"]

Scope = Literal["process", "thread", "process_group"]

# KERNEL: 0 is what the pidfd was opened for, which every kernel with pidfds knows.
_SCOPES: dict[Scope, int] = {"process": 0, "thread": 1, "process_group": 4}


def nanoseconds(timeout: float | None) -> int:
    """Return a timeout as the compiled layer takes it: negative is for ever."""
    if timeout is None:
        return -1
    # The comparison is false for a NaN as well.
    if not timeout >= 0:
        raise ValueError(f"timeout: takes None or seconds from 0 on, not {timeout!r}")
    return min(int(timeout * 1_000_000_000), 2**62)


class Process:
    """A process by its pidfd, which never comes to mean another one.

    It comes from ``spawn``, ``Prepared.publish``, ``open``, ``current`` or ``from_pidfd``. The first two
    make it the owner of a child: dropped or closed while the child runs, it kills and reaps it;
    ``detach`` ends that. The others own the descriptor alone and never kill.

    Leaving the ``with`` block of a child closes the pipes and waits for its end; if the block raises, the
    child is killed. Safe to use from several threads, except to close while others use it.

    Attributes:
        stdin, stdout, stderr: this process's ends of the pipes that PIPE asked for, owned here. Use
            ``into_file`` to read and write them as files.
    """

    def __init__(
        self,
        child: Child,
        arguments: Sequence[bytes] = (),
        stdin: Descriptor | None = None,
        stdout: Descriptor | None = None,
        stderr: Descriptor | None = None,
    ) -> None:
        self._child = child
        self._arguments = arguments
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._exchange: Exchange | None = None

    @classmethod
    def open(cls, pid: int) -> Self:
        """Open somebody's process by number.

        The number of anything but an unreaped child may already mean another process: check who it is
        (``info``) after this call, and act on it through this object only.

        Raises:
            ProcessLookupError: there is no such process, or it is the number of a thread.
            UnsupportedError: before Linux 5.3, or a sandbox forbids it.
            OSError: EMFILE, ENFILE, ENOMEM: refused this time.

        Kernel: pidfd_open(2) (5.3).
        """
        with open_pidfd(pid) as owner:
            return cls(Child(pid, owner))

    @classmethod
    def current(cls) -> Self:
        """Open this process itself; errors as for ``open``."""
        return cls.open(os.getpid())

    @classmethod
    def from_pidfd(cls, pidfd: Descriptor) -> Self:
        """Take over a pidfd that came from elsewhere, over a socket for instance.

        Args:
            pidfd: owns nothing any more when this returns.

        Raises:
            ProcessLookupError: the process has been reaped already; the Descriptor still owns its number.
            ValueError: it is no pidfd.
        """
        return cls(Child(_pid_of(pidfd), pidfd))

    @property
    def args(self) -> tuple[str, ...]:
        """What it was spawned with; empty for others' processes."""
        return tuple(map(os.fsdecode, self._arguments))

    @property
    def pid(self) -> int:
        """Its number, for people and logs; it may mean another process once this one was reaped."""
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit status that ``wait`` or ``poll`` last saw: 0 to 255, or a negative signal number."""
        return self._child.returncode

    @property
    def ended(self) -> bool:
        """True once the process has ended, whether reaped or not. Works for any process."""
        return self._child.ended

    @property
    def owned(self) -> bool:
        """True while this object has to end and reap a child."""
        return self._child.owned

    @property
    def closed(self) -> bool:
        """True when this object owns no pidfd any more."""
        return self._child.pidfd.closed

    def fileno(self) -> int:
        """Return the pidfd's number: readable when the process has ended. It stays owned by this object.

        Raises:
            ClosedError: it owns nothing any more.
        """
        return self._child.pidfd.fileno()

    def poll(self) -> int | None:
        """Return the exit status if the process has ended, reaping a child, else None; as for ``wait``."""
        return self._child.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, reap a child, and return the exit status.

        For somebody else's process it waits until its parent has reaped it; only then does the kernel
        tell. ``ended`` and ``wait_many`` do without.

        Args:
            timeout: seconds; None is for ever.

        Returns:
            0 to 255, or the negative number of the signal that ended it.

        Raises:
            TimeoutError: it has not ended by then.
            UnsupportedError: not a child of this process, before Linux 6.15.
            ChildProcessError: somebody else in this program reaped it, before Linux 6.15.
            ClosedError: this object owns nothing any more, and the status was not known before.

        Kernel: waitid(2) with P_PIDFD (5.4), PIDFD_GET_INFO with PIDFD_INFO_EXIT (6.15).
        """
        return self._child.wait(nanoseconds(timeout))

    async def wait_async(self) -> int:
        """As ``wait``, in asyncio or Trio; cancelling it leaves the process alone."""
        from fdproof.process._wait import wait_async

        return await wait_async(self)

    def send_signal(self, number: int, scope: Scope = "process") -> None:
        """Send a signal; a process that has ended is left alone, and nobody gets it in its place.

        Args:
            number: ``signal.SIGTERM`` and the like.
            scope: "process"; "thread", its main thread alone; "process_group", all of the group that it
                leads, and nobody if it leads none.

        Raises:
            PermissionError: EPERM, it belongs to somebody else.
            OSError: EINVAL, there is no such signal.
            UnsupportedError: a scope other than the process, before Linux 6.9.

        Kernel: pidfd_send_signal(2) (5.1).
        """
        if scope not in _SCOPES:
            raise ValueError(f"scope: is one of {', '.join(map(repr, _SCOPES))}, not {scope!r}")
        self._child.signal(number, _SCOPES[scope])

    def terminate(self) -> None:
        """Send SIGTERM; as ``send_signal``."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL; as ``send_signal``."""
        self.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill and reap a child in one step that no signal handler interrupts; others are left alone."""
        self._child.end()

    def kill_tree(self) -> int:
        """Kill the process and all its descendants.

        They are stopped one by one until no running one is left that could fork, then killed, each
        through a pidfd that was verified to be a child of its parent.

        What it cannot catch: descendants whose parent ended before (daemons), because nothing ties
        them to this tree any more; those that somebody continues (SIGCONT) at that moment; those
        that belong to another user. A control group of its own catches them all.

        Returns:
            How many were killed. A child still has to be waited for.

        Raises:
            PermissionError: one of them belongs to somebody else.
            OSError: EMFILE: one descriptor is needed for each.
        """
        return kill_tree(self._child)

    def info(self) -> Info:
        """Ask the kernel who this is, and once it was reaped, how it ended.

        Raises:
            ProcessLookupError: it was reaped, before Linux 6.15.
            UnsupportedError: before Linux 6.13.

        Kernel: PIDFD_GET_INFO, ioctl_pidfd(2) (6.13); exit status 6.15; core dump 6.16.
        """
        return _info.info(self._child.pidfd)

    def same_process(self, other: "Process") -> bool:
        """Tell whether two objects mean the same process, reaped or not.

        Raises:
            UnsupportedError: before Linux 6.9.

        Kernel: pidfds have an inode for each process (6.9).
        """
        if not _info.has_identity(self._child.pidfd):
            raise UnsupportedError("comparing pidfds (pidfs)", "6.9")
        mine, theirs = os.fstat(self.fileno()), os.fstat(other.fileno())
        return (mine.st_dev, mine.st_ino) == (theirs.st_dev, theirs.st_ino)

    def namespace(self, kind: Namespace | str) -> Descriptor:
        """Open a namespace that the process is in, for setns(2).

        Args:
            kind: a Namespace, or its name in ``/proc/<pid>/ns``.

        Returns:
            The descriptor's owner.

        Raises:
            ProcessLookupError: it has ended.
            PermissionError: EACCES, this process may not look into that one.
            OSError: EOPNOTSUPP, the kernel was built without this kind; EMFILE.

        Kernel: PIDFD_GET_*_NAMESPACE, ioctl_pidfd(2) (6.11); before, ``/proc/<pid>/ns``.
        """
        wanted = Namespace(kind)
        try:
            return _info.namespace(self._child.pidfd, wanted)
        except UnsupportedError:
            pass
        owner = open_file(f"/proc/{self.pid}/ns/{wanted.value}", FileFlags.RDONLY)
        try:
            # Unreaped after its number was used: the number meant it.
            signal.pidfd_send_signal(self.fileno(), 0)
        except PermissionError:
            return owner
        except BaseException:
            owner.close()
            raise
        return owner

    def fetch(self, number: int) -> Descriptor:
        """Take a duplicate of a descriptor of the process.

        Args:
            number: as the process counts.

        Returns:
            The duplicate's owner: the same file, so offset and status flags are shared with the process.

        Raises:
            PermissionError: EPERM, with the likely reason and what would help.
            OSError: EBADF, it is not open there; EMFILE, ENFILE.
            ProcessLookupError: it has ended.
            UnsupportedError: before Linux 5.6.

        Kernel: pidfd_getfd(2) (5.6).
        """
        try:
            return _info.fetch(self._child.pidfd, number)
        except PermissionError as error:
            raise PermissionError(
                error.errno,
                f"process {self.pid} may not be looked into: {_refusal.explain(self.pid)}",
            ) from None

    def communicate(
        self, input: bytes | None = None, timeout: float | None = None
    ) -> tuple[bytes | None, bytes | None]:
        """Send input, read all output, close the pipes, and wait for the end.

        Args:
            input: for stdin, which must be a pipe; it is closed afterwards.
            timeout: seconds; None is for ever.

        Returns:
            What came from stdout and stderr; None where there was no pipe.

        Raises:
            TimeoutError: it has not ended by then. It runs on; another call goes on where this one
                stopped, and takes no input.
            ClosedError: a pipe was closed or turned into a file before.
        """
        if self._exchange is None:
            self._exchange = Exchange(self.stdin, self.stdout, self.stderr, input)
        elif input is not None:
            raise ValueError("input: was given when the communication began")
        return self._exchange.run(self._child, nanoseconds(timeout))

    def collected(self) -> tuple[bytes | None, bytes | None]:
        """Return what ``communicate`` has read of stdout and stderr so far."""
        return (None, None) if self._exchange is None else self._exchange.so_far()

    def detach(self) -> Descriptor:
        """Give the process up without ending it.

        Returns:
            The pidfd's owner. A child has to be reaped by the caller, or stays a zombie until this
            process ends.

        Raises:
            ClosedError: this object owns nothing any more.
        """
        return self._child.detach()

    def close(self) -> None:
        """Kill and reap a child that still runs, close the pipes and the pidfd; twice is quiet."""
        try:
            self._close_pipes()
        finally:
            self._child.close()

    def _close_pipes(self) -> None:
        try:
            if self.stdin is not None:
                self.stdin.close()
        finally:
            try:
                if self.stdout is not None:
                    self.stdout.close()
            finally:
                if self.stderr is not None:
                    self.stderr.close()

    def __enter__(self) -> Self:
        if self.closed:
            raise ClosedError("this Process owns nothing: it was closed or detached")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._child.owned and not self.closed:
                self._close_pipes()
                self.wait()
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._child.owned and not self.closed:
                self._close_pipes()
                await self.wait_async()
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        if self.returncode is not None:
            state = f"ended with {self.returncode}"
        return f"<fdproof.process.Process {self.pid} {state}>"


def _pid_of(pidfd: Descriptor) -> int:
    """Return the number of the process behind a pidfd, from the one place where every kernel has it."""
    with open(f"/proc/self/fdinfo/{pidfd.fileno()}", encoding="utf-8") as lines:
        pid = next((int(line[4:]) for line in lines if line.startswith("Pid:")), None)
    if pid is None:
        raise ValueError(f"pidfd: descriptor {pidfd.fileno()} is not a pidfd")
    if pid <= 0:
        raise ProcessLookupError(
            errno.ESRCH, "the process was reaped, or is outside this pid namespace"
        )
    return pid
