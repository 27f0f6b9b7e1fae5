"""The process in which an operation runs: warmed once, then forked (or spawned from) for every run.

Started by ``check.executor`` as ``python -m fdproof.check.stage NUMBER``, the number of its end of a socket
pair. It has one thread of its own, so that forking it is safe, and it is the subreaper of its runs:
whatever they leave running is killed here, also when the order-giver is gone.
"""

import contextlib
import dataclasses
import gc
import mmap
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from fdproof import _syscalls
from fdproof._errors import Error
from fdproof.check.calls import BEGIN, COLLECTED, END, SOMETHING_LEFT, filter_for
from fdproof.check.operation import CallableOperation, CommandOperation, Operation, load
from fdproof.check.records import Outcome, Request
from fdproof.check.supervise import DisconnectedError, Supervision
from fdproof.check.tree import Tree, kill_descendants, own_children
from fdproof.notifier import fork, spawn
from fdproof.notifier._start import Handover, mark
from fdproof.observe.snapshot import Entry, numbers, snapshot

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_RAISED_ROOM = 4096
_STDERR_SHOWN = 4000


class _CallableStage:
    """Runs of a Python function, forked from this process."""

    def __init__(self, operation: CallableOperation, control: Connection) -> None:
        self._control = control
        self._function = load(operation)
        self._handover = Handover()
        self._tree = Tree()
        self._keep: frozenset[int] = frozenset()
        self._own: frozenset[int] = frozenset()
        self._before: dict[int, Entry] = {}
        # Shared with the child: what the operation raised comes back without a system call.
        self._raised = mmap.mmap(-1, _RAISED_ROOM)

    def warm_up(self) -> str:
        """Run the operation once here, so that what it loads lazily is loaded; returns what it raised."""
        before = numbers(os.getpid())
        raised = _describe_raised(self._function)
        self._own = frozenset(numbers(os.getpid())).difference(before)
        # Helpers that it keeps from one time to the next (multiprocessing has some) stay.
        self._keep = own_children()
        gc.collect()
        gc.freeze()
        return raised

    def run(self, request: Request) -> Outcome:
        """Fork a child, run the operation in it, tell what was left."""
        self._before = before = _own_table(self._before)
        self._raised[:] = bytes(_RAISED_ROOM)
        target = fork(
            filter_for(False, request.only),
            lambda: self._operate(request.rounds),
            handover=self._handover,
        )
        supervision = Supervision(
            target,
            request,
            before,
            self._tree,
            self._control,
            command=False,
            keep=self._keep,
            own=self._own,
        )
        outcome = _run(supervision)
        return _with_raised(outcome, self._read_raised(request.rounds))

    def _operate(self, rounds: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for index in range(rounds):
            mark(BEGIN)
            raised = _describe_raised(self._function)
            if mark(END) == SOMETHING_LEFT:
                gc.collect()
                mark(COLLECTED)
            share = _RAISED_ROOM // rounds
            text = raised.encode(errors="replace").replace(b"\0", b"")[:share]
            self._raised[index * share : index * share + len(text)] = text
        # No exit handlers and no flush: they belong to the process that was forked.
        os._exit(0)

    def _read_raised(self, rounds: int) -> list[str]:
        share = _RAISED_ROOM // rounds
        shares = (self._raised[index * share : (index + 1) * share] for index in range(rounds))
        return [text.rstrip(b"\0").decode(errors="replace") for text in shares]


class _CommandStage:
    """Runs of a command, spawned from this process."""

    def __init__(self, operation: CommandOperation, control: Connection) -> None:
        self._control = control
        self._arguments = operation.arguments
        self._tree = Tree()
        self._before: dict[int, Entry] = {}

    def warm_up(self) -> str:
        """A command starts afresh each time: there is nothing to warm."""
        return ""

    def run(self, request: Request) -> Outcome:
        """Spawn the command, tell what was left at its exit and at every exec."""
        self._before = before = _own_table(self._before)
        inherited = {number: one for number, one in before.items() if not one.close_on_exec}
        target = spawn(filter_for(True, request.only), self._arguments)
        return _run(
            Supervision(target, request, inherited, self._tree, self._control, command=True)
        )


def _own_table(known: dict[int, Entry]) -> dict[int, Entry]:
    """Return this process's table; to look at every entry again would cost as much as the run itself.

    Nothing is put under another number here between two runs, so equal numbers mean equal entries.
    """
    open_now = {int(name) for name in os.listdir("/proc/self/fd")}
    # One more than known is open: the number of the listing itself.
    if len(open_now) == len(known) + 1 and known.keys() < open_now:
        return known
    return snapshot(os.getpid())


def _run(supervision: Supervision) -> Outcome:
    with _stderr_of_run() as read:
        outcome = supervision.run()
        return dataclasses.replace(outcome, stderr=read())


@contextlib.contextmanager
def _stderr_of_run() -> Iterator[Callable[[], str]]:
    """Give access to what a run writes to standard error, a file in memory that all runs share."""

    def read() -> str:
        size = os.fstat(2).st_size
        return os.pread(2, _STDERR_SHOWN, max(0, size - _STDERR_SHOWN)).decode(errors="replace")

    try:
        yield read
    finally:
        os.ftruncate(2, 0)


def _with_raised(outcome: Outcome, raised: list[str]) -> Outcome:
    rounds = tuple(
        dataclasses.replace(one, raised=text)
        for one, text in zip(outcome.rounds, raised, strict=False)
    )
    return dataclasses.replace(outcome, rounds=rounds)


def _describe_raised(function: Callable[[], Any]) -> str:
    """Call the function; return the exception that came out, as text: nothing of it is kept alive."""
    process = os.getpid()
    try:
        function()
    except BaseException as error:
        _end_a_stray_child(process)
        try:
            text = str(error)
        except Exception:
            text = "(its text cannot be shown)"
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    _end_a_stray_child(process)
    return ""


def _end_a_stray_child(process: int) -> None:
    # A child that the operation forked came out of it: it must not go on as a second stage.
    if os.getpid() != process:
        os._exit(1)


def _stage_for(operation: Operation, control: Connection) -> _CallableStage | _CommandStage:
    if isinstance(operation, CallableOperation):
        return _CallableStage(operation, control)
    return _CommandStage(operation, control)


def _end_with_everything(process: int) -> None:
    if os.getpid() == process:
        kill_descendants()
        os._exit(1)
    # Inherited by a process that the operation forked: nothing of it is meant there.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def main(number: int) -> None:
    """Serve runs until the other end hangs up.

    Args:
        number: the descriptor of this process's end of the line.
    """
    os.set_inheritable(number, False)
    control = Connection(number)
    _syscalls.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    process = os.getpid()
    signal.signal(signal.SIGTERM, lambda *_: _end_with_everything(process))
    # The order-giver's death ends also a warm-up that never returns.
    _syscalls.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Threads that the operation leaves behind do not come along into the runs; see the docs.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
    try:
        stage = _stage_for(control.recv(), control)
        control.send(stage.warm_up())
        while True:
            control.send(stage.run(control.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError, DisconnectedError):
        pass
    except (Error, OSError) as error:
        _tell(control, error)
    except BaseException as error:
        text = "".join(traceback.format_exception(error))
        _tell(control, Error(f"the check itself failed:\n{text}"))
    finally:
        kill_descendants()


def _tell(control: Connection, error: BaseException) -> None:
    with contextlib.suppress(OSError):
        control.send(error)


if __name__ == "__main__":
    main(int(sys.argv[1]))
