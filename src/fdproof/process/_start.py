"""Start processes: spawn, and prepare with its publish."""

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack, cast

from fdproof._creating import socketpair
from fdproof._descriptor import Descriptor
from fdproof._errors import StateError
from fdproof.process._child import Child
from fdproof.process._order import Options, Order, Path, order_from
from fdproof.process._process import Process
from fdproof.process._spawn import Start
from fdproof.process._stdio import Source, Streams

__all__ = ["Prepared", "prepare", "spawn"]

_GO = b"g"
_NO_OPTIONS: Options = {}
_NAMES = tuple(Options.__annotations__)
_DEFAULTS = tuple({"inheritable": (), "new_session": False}.get(name) for name in _NAMES)


def spawn(
    argv: Sequence[Path],
    *,
    executable: Path | None = None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    cwd: Path | None = None,
    stdin: Source | None = None,
    stdout: Source | None = None,
    stderr: Source | None = None,
    files: Mapping[int, Source] | None = None,
    inheritable: Iterable[Source] = (),
    user: str | int | None = None,
    group: str | int | None = None,
    extra_groups: Iterable[str | int] | None = None,
    umask: int | None = None,
    new_session: bool = False,
    process_group: int | None = None,
    cgroup: Path | Source | None = None,
    parent_death_signal: int | None = None,
    pid_variable: str | None = None,
) -> Process:
    """Start a program in a child, whose pidfd comes out of the call that makes it.

    The child has the descriptors that are named here and its standard streams, and no others. It has
    this thread's signal mask, and its ignored signals except SIGPIPE and SIGXFSZ, which Python ignores
    for itself. The cost does not grow with this process's memory, unless its ids change, nor with its
    number of open descriptors. Safe in programs with threads.

    Args:
        argv: the program and its arguments. Without a slash it is looked up in the child's PATH.
        executable: the program to run, where it is not ``argv[0]``.
        env: the whole environment; None for this process's.
        cwd: where it starts; entered with this process's rights.
        stdin, stdout, stderr: PIPE, DEVNULL, a descriptor, or None for this process's own. STDOUT, for
            stderr: the same as stdout.
        files: for each number in the child, a descriptor of this process. Cycles and overlaps are
            sorted out; the descriptors stay with their owners.
        inheritable: descriptors that keep their numbers.
        user: name or number. It brings its group and its extra groups along, unless they are given.
        group: name or number.
        extra_groups: names or numbers.
        umask: of the files that it creates.
        new_session: it leads a new session, and a process group of its own.
        process_group: the group that it joins; 0 for one of its own.
        cgroup: directory of the control group (version 2) that it starts in, as a path or a descriptor.
        parent_death_signal: what it gets when the *thread* that calls this ends. Not after it runs a
            set-user-ID program.
        pid_variable: the environment variable that is to tell the program its own pid, as LISTEN_PID
            does in socket activation.

    Returns:
        The process, which owns the child: see Process.

    Raises:
        OSError: any step failed, ENOENT, EACCES, EPERM and others: the message begins with the step
            ("exec", "chdir", "cgroup", "files", "setresuid", ...) and ends with the file's name. The
            child is reaped and the table as before. EAGAIN, no more tasks; EMFILE, no descriptor.
        ValueError, TypeError: an argument cannot be.
        UnsupportedError: before Linux 5.9 (close_range).

    Kernel: clone(2) with CLONE_VM, CLONE_VFORK and CLONE_PIDFD (5.2), close_range(2) (5.9).
    """
    values = (
        executable,
        env,
        cwd,
        stdin,
        stdout,
        stderr,
        files,
        inheritable,
        user,
        group,
        extra_groups,
        umask,
        new_session,
        process_group,
        cgroup,
        parent_death_signal,
        pid_variable,
    )
    options = _NO_OPTIONS if values == _DEFAULTS else _given(values)
    streams = Streams()
    try:
        order = order_from(argv, options, streams)
        start = Start(order)
        child = start.make()
        if child is None:
            raise order.failure(start.error, start.step, start.which)
        streams.close_theirs()
    except BaseException:
        streams.close()
        raise
    return _process(child, order, streams)


def _given(values: tuple[object, ...]) -> Options:
    """Return the options that are not left at their defaults, in the order of ``Options``."""
    given = {
        name: value
        for name, value, default in zip(_NAMES, values, _DEFAULTS, strict=True)
        if value is not default
    }
    return cast(Options, given)


def prepare(argv: Sequence[Path], **options: Unpack[Options]) -> "Prepared":
    """Make a child that waits: it has a pid and a pidfd, and runs its program only when published.

    Everything that can fail has been done when this returns, except the exec itself. What may fail on
    this side (registering it, telling others its number, limits) comes between here and ``publish``.

    Unlike a spawned child it has a copy of this process's memory, so the cost grows with its size. It is
    killed when the thread that prepared it ends before the publish.

    Args:
        argv: the program and its arguments.
        **options: as for ``spawn``.

    Returns:
        The prepared child, for a ``with`` block: leaving it unpublished kills and reaps the child.

    Raises:
        OSError, ValueError, TypeError, UnsupportedError: as for ``spawn``.
    """
    streams = Streams()
    child = None
    try:
        ours, theirs = socketpair()
        streams.keep(ours)
        streams.keep(theirs)
        order = order_from(argv, options, streams, theirs.fileno())
        start = Start(order)
        child = start.make()
        if child is None:
            raise order.failure(start.error, start.step, start.which)
        theirs.close()
        if not os.read(ours.fileno(), 1):
            child.close()
            raise _died(child, order, start)
        streams.hand_on(ours)
        streams.close_theirs()
        return Prepared(child, order, start, streams, ours)
    except BaseException:
        if child is not None:
            child.close()
        streams.close()
        raise


class Prepared:
    """A child that has not run its program; it comes from ``prepare``.

    Leaving the ``with`` block kills and reaps it, unless it was published. If this process dies before
    the publish, the child dies without having run its program.
    """

    def __init__(
        self, child: Child, order: Order, start: Start, streams: Streams, channel: Descriptor
    ) -> None:
        self._child: Child | None = child
        self._order = order
        self._start = start
        self._streams = streams
        self._channel = channel
        self.pid = child.pid

    def fileno(self) -> int:
        """Return the pidfd's number, which stays owned by this object, later by the Process.

        Raises:
            StateError: it was published or given up.
        """
        return self._held().pidfd.fileno()

    def publish(self) -> Process:
        """Let the child run its program.

        Returns:
            The process, which owns the child from here on.

        Raises:
            OSError: the exec failed; the child is reaped and this object closed.
            ProcessLookupError: the child was killed before.
            StateError: it was published or given up already.
        """
        child = self._held()
        try:
            os.write(self._channel.fileno(), _GO)
        except BrokenPipeError:
            self.close()
            raise ProcessLookupError(
                errno.ESRCH,
                f"process {self.pid} died before it was published (status {child.returncode})",
            ) from None
        # Its end of the channel is closed by the exec, or by its death.
        os.read(self._channel.fileno(), 1)
        if self._start.error:
            self.close()
            raise self._order.failure(self._start.error, self._start.step, self._start.which)
        self._channel.close()
        process = _process(child, self._order, self._streams)
        # OWNERSHIP: the Process owns child and pipes from here on.
        self._child = None
        return process

    def _held(self) -> Child:
        if self._child is None or self._child.pidfd.closed:
            raise StateError("this child was published or given up already")
        return self._child

    def close(self) -> None:
        """Kill and reap the child unless it was published; twice is quiet."""
        if self._child is None:
            return
        try:
            self._child.close()
        finally:
            self._channel.close()
            self._streams.close()

    def __enter__(self) -> Self:
        self._held()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "published" if self._child is None else "waiting"
        if self._child is not None and self._child.pidfd.closed:
            state = "given up"
        return f"<fdproof.process.Prepared {self.pid} {state}>"


def _process(child: Child, order: Order, streams: Streams) -> Process:
    return Process(child, order.arguments, streams.stdin, streams.stdout, streams.stderr)


def _died(child: Child, order: Order, start: Start) -> OSError:
    if start.error:
        return order.failure(start.error, start.step, start.which)
    return ProcessLookupError(
        errno.ESRCH, f"the child died before it was ready (status {child.returncode})"
    )
