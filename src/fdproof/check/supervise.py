"""One run of an operation under its supervisor: answers the calls, records what is left behind."""

import errno
import os
import time
from collections.abc import Iterable, Sequence
from typing import Protocol

from fdproof.check.calls import (
    BEGIN,
    COLLECTED,
    END,
    MARK,
    SOMETHING_LEFT,
    asks_to_survive,
    watched_for,
)
from fdproof.check.errnos import Referent, call_for
from fdproof.check.loader import loader_range
from fdproof.check.records import End, Exec, Frame, Outcome, Point, PointKey, Request, Round
from fdproof.check.stacks import python_stack
from fdproof.check.tree import Tree, kill_descendants
from fdproof.notifier import Target
from fdproof.notifier._libseccomp import name_of, number_of
from fdproof.notifier._loop import Loop, Stop
from fdproof.observe.snapshot import Entry, describe, entry, numbers, same_file, snapshot

_PAGE = os.sysconf("SC_PAGE_SIZE")

__all__ = ["Control", "DisconnectedError", "Supervision"]


class Control(Protocol):
    """The line to whoever ordered the run: when it breaks, the run ends."""

    def fileno(self) -> int:
        """Return the descriptor to watch."""


class DisconnectedError(Exception):
    """Whoever ordered the run is gone."""


class Supervision:
    """One run.

    Args:
        target: the started root; this object closes it.
        request: what to do.
        before: the root's table when it started, by number.
        tree: gives names to tasks.
        control: the line to whoever ordered the run.
        command: the root is a program of its own: judged at its exit, counted from its start.
        keep: children of this process that are not of this run.
        own: numbers of ``before`` that the operation itself made when it was warmed up: it may close or
            replace them.
    """

    def __init__(
        self,
        target: Target,
        request: Request,
        before: dict[int, Entry],
        tree: Tree,
        control: Control | None,
        command: bool,
        keep: frozenset[int] = frozenset(),
        own: frozenset[int] = frozenset(),
    ) -> None:
        self._target = target
        self._keep = keep
        self._request = request
        self._before = before
        self._strangers = [one for number, one in before.items() if number not in own]
        self._tree = tree
        self._command = command
        self._loop = Loop(target.listener, target.process, control, watched_for(command))
        self._reached = 0
        self._rounds: list[Round] = []
        self._execs: list[Exec] = []
        self._points: list[Point] = []
        self._after: tuple[Entry, ...] = ()
        self._made_by: dict[int, PointKey] = {}
        self._latest: dict[int, PointKey] = {}
        self._seen: set[int] = set(before)
        self._stacks: list[tuple[PointKey, tuple[Frame, ...]]] = []
        self._end: End | None = None
        self._waiting: tuple[Frame, ...] = ()
        self._loop.counting = command
        self._loop.stepping = request.record or request.attribute or bool(request.stacks)

    def run(self) -> Outcome:
        """Supervise until the end, kill what is left of the tree, and tell what was seen.

        Raises:
            DisconnectedError: nobody waits for the answer any more; the tree is gone.
        """
        fault = self._request.fault
        started = time.monotonic()
        self._loop.add_task(self._target.pid, self._tree.begin(self._target.pid))
        if self._command:
            self._loop.starts_program_of(self._target.pid)
        if fault is not None:
            number = number_of(fault.key.call)
            assert number is not None
            self._loop.set_fault(self._tree.index(fault.key.task), number, fault.key.occurrence)
        try:
            while (stop := self._loop.run(started + self._request.timeout)) is not Stop.ENDED:
                if stop is Stop.CONTROL:
                    raise DisconnectedError
                if stop is Stop.TIMEOUT:
                    self._end = End.HUNG
                    self._waiting = python_stack(self._target.pid, self._target.pid)
                    break
                self._answer(stop)
            calls = self._loop.calls
        finally:
            if self._end is End.HUNG or self._target.poll() is None:
                self._target.kill()
            status = self._target.wait()
            self._target.close()
            kill_descendants(self._keep)
        return Outcome(
            fault=fault,
            reached=self._reached,
            end=self._end or self._ending(status),
            status=status,
            rounds=tuple(self._rounds),
            execs=tuple(dict.fromkeys(self._execs)),
            points=tuple(self._points),
            calls=calls,
            made_by=tuple(sorted(self._made_by.items())),
            stacks=tuple(self._stacks),
            waiting=self._waiting,
            limit=self._request.timeout,
            seconds=time.monotonic() - started,
        )

    def _ending(self, status: int) -> End:
        if status < 0:
            return End.KILLED
        if self._command:
            return End.EXITED
        if len(self._rounds) < self._request.rounds:
            return End.EXITED
        return End.RETURNED

    def _answer(self, stop: Stop) -> None:
        task, call, arguments = self._loop.pending
        match stop:
            case Stop.NEW_TASK:
                self._loop.add_task(task, self._tree.index(self._tree.place(task)))
            case Stop.NEW_PROGRAM:
                self._loop.set_loader(*loader_range(task))
            case Stop.WATCHED:
                self._watched(task, call, arguments)
            case Stop.FAULT:
                assert self._request.fault is not None
                self._step(task, call, arguments)
                self._reached += 1
                self._loop.fail(_errno_number(self._request.fault.errno))
            case Stop.POINT:
                self._step(task, call, arguments)
                self._loop.resume()

    def _watched(self, task: int, call: int, arguments: tuple[int, ...]) -> None:
        name = name_of(call)
        if name == MARK:
            self._loop.reply(self._marked(arguments[2]))
            return
        if name == "exit_group":
            if self._command and self._tree.is_root(task, self._target.pid):
                now = numbers(self._target.pid)
                left = self._new(now)
                self._rounds.append(self._round(left, now, left))
        elif self._loop.counting:
            self._judge_exec(task, arguments[0 if name == "execve" else 1])
            self._loop.starts_program_of(task)
        self._loop.resume()

    def _marked(self, code: int) -> int:
        if code == BEGIN:
            self._loop.reset_counts()
            self._tree.begin_round()
            self._loop.counting = True
        elif code == END:
            self._loop.counting = False
            self._attribute_new()
            now = numbers(self._target.pid)
            self._after = self._new(now)
            if self._after:
                return SOMETHING_LEFT
            self._rounds.append(self._round((), now, ()))
        elif code == COLLECTED:
            now = numbers(self._target.pid)
            self._rounds.append(self._round(self._after, now, self._new(now)))
        return 0

    def _new(self, now: Iterable[int]) -> tuple[Entry, ...]:
        new = [number for number in now if number not in self._before]
        return tuple(snapshot(self._target.pid, new).values())

    def _round(
        self, after: tuple[Entry, ...], now: Sequence[int], collected: tuple[Entry, ...]
    ) -> Round:
        pid = self._target.pid
        gone = tuple(one for one in self._strangers if one.number not in now)
        replaced = tuple(
            one for one in self._strangers if one.number in now and self._differs(pid, one)
        )
        return Round(after, collected, gone, replaced)

    def _differs(self, pid: int, was: Entry) -> bool:
        # This process holds the same files under the same numbers.
        same = same_file(os.getpid(), pid, was.number)
        if same is None:
            is_now = entry(pid, was.number)
            return is_now is None or (is_now.target, is_now.flags) != (was.target, was.flags)
        return not same

    def _judge_exec(self, task: int, path: int) -> None:
        """Note what would survive an exec and was neither asked for nor there before."""
        try:
            table = snapshot(task)
        except OSError:
            return
        survivors = [
            one
            for one in table.values()
            if not one.close_on_exec
            and one.number > 2
            and not (one.number in self._before and self._before[one.number].target == one.target)
        ]
        if not survivors:
            return
        asked = {asks_to_survive(call, arguments) for _, call, _, arguments in self._loop.events()}
        unasked = tuple(one for one in survivors if one.number not in asked)
        program = _text_at(task, path)
        if unasked and not _is_missing(task, program):
            self._execs.append(Exec(self._tree.name_of(task), program, unasked))

    def _step(self, task: int, call: int, arguments: tuple[int, ...]) -> None:
        """Look closely at one call: what it acts on, what the calls before it made, and where it stands."""
        if not self._loop.stepping:
            return
        self._attribute_new()
        key = PointKey(self._tree.name_of(task), name_of(call), self._loop.occurrence)
        if self._request.attribute and self._tree.is_root(task, self._target.pid):
            self._latest[task] = key
        if self._request.record:
            point = _point(key, task, arguments)
            if point is not None:
                self._points.append(point)
        fault = self._request.fault
        if key in self._request.stacks or (
            self._request.stacks and fault is not None and key == fault.key
        ):
            self._stacks.append((key, python_stack(self._process_of(task), task)))

    def _process_of(self, task: int) -> int:
        return self._target.pid if self._tree.is_root(task, self._target.pid) else task

    def _attribute_new(self) -> None:
        """Numbers that are new since the last call were made by it."""
        if not self._request.attribute or not self._latest:
            return
        open_now = set(numbers(self._target.pid))
        for number in open_now - self._seen:
            # With several threads this is a guess; the newest call is the likeliest.
            self._made_by[number] = list(self._latest.values())[-1]
        self._seen = open_now


def _point(key: PointKey, task: int, arguments: Sequence[int]) -> Point | None:
    call = call_for(key.call, arguments)
    if call is None:
        return None
    if call.descriptor_argument is None:
        return Point(key, tuple(one.name for one in call.errnos))
    number = arguments[call.descriptor_argument] & 0xFFFFFFFF
    acted_on = entry(task, number) if number <= 0x7FFFFFFF else None
    if acted_on is None:
        # It fails by itself: nothing to inject.
        return None
    possible = call.errnos_on(Referent.of(acted_on.mode))
    if not possible:
        return None
    on = describe(acted_on.target, acted_on.mode, acted_on.flags)
    return Point(key, tuple(one.name for one in possible), on)


def _text_at(task: int, address: int) -> str:
    """Read a string of a task that stands still, bounded; what it says is shown, never acted on."""
    try:
        with open(f"/proc/{task}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            # To the end of its page: the next one may not be there.
            return os.fsdecode(memory.read(_PAGE - address % _PAGE).split(b"\0")[0])
    except (OSError, ValueError, OverflowError):
        return "a program"


def _is_missing(task: int, program: str) -> bool:
    """Tell whether an exec will find nothing: a search along PATH tries such names."""
    if not program.startswith("/"):
        return False
    try:
        os.stat(f"/proc/{task}/root{program}")
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _errno_number(name: str) -> int:
    number: int = getattr(errno, name)
    return number
