"""The sweep: record the points, plan the faults, run them, judge, look again, explain."""

import concurrent.futures
import dataclasses
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence

from fdproof._errors import UnsupportedError
from fdproof.check.executor import Stage
from fdproof.check.operation import (
    CallableOperation,
    CommandOperation,
    Operation,
    OperationError,
    check_command,
)
from fdproof.check.records import (
    End,
    Fault,
    Finding,
    Frame,
    Left,
    Outcome,
    Point,
    PointKey,
    Report,
    Request,
    Verdict,
)
from fdproof.check.verdicts import grows, judge

__all__ = ["Progress", "sweep"]

Progress = Callable[[int, int, int], None]
# Below this, a second warmed process costs more than it saves.
_FAULTS_PER_JOB = 16
# What a supervised call costs (seconds), for weighing it against a run.
_ONE_CALL = 6e-6
# Runs shorter than this (seconds) are ordered in batches.
_SHORT = 0.1
_BATCH = 8
# Looking for stacks costs tenths of a second for each fault.
_MOST_EXPLAINED = 40


def sweep(
    operation: Operation,
    *,
    all_errnos: bool = False,
    timeout: float = 10.0,
    jobs: int | None = None,
    stacks: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Make every system call of an operation fail in turn, and judge what each leaves behind.

    Args:
        operation: what to run.
        all_errnos: every errno of the table at each point, instead of one.
        timeout: seconds until a run counts as hung.
        jobs: how many runs at the same time; one for each core by default.
        stacks: take the Python stacks of what is found.
        progress: called after each fault with the number done, the number planned and the number of
            findings; from any thread.

    Returns:
        The report. After a KeyboardInterrupt it holds what was found so far and says so.

    Raises:
        OperationError: the operation cannot be found, fails undisturbed, does not end, or is not
            repeatable.
        UnsupportedError: the kernel lacks something.
    """
    if isinstance(operation, CommandOperation):
        check_command(operation)
    return _Sweep(operation, all_errnos, timeout, jobs, stacks, progress).run()


class _Sweep:
    def __init__(
        self,
        operation: Operation,
        all_errnos: bool,
        timeout: float,
        jobs: int | None,
        stacks: bool,
        progress: Progress | None,
    ) -> None:
        self._operation = operation
        self._all_errnos = all_errnos
        self._timeout = timeout
        self._jobs = jobs or max(1, len(os.sched_getaffinity(0)))
        self._want_stacks = stacks
        self._progress = progress
        self._lock = threading.Lock()
        self._local = threading.local()
        self._stages: list[Stage] = []
        self._stopping = False
        self._done = self._planned = 0
        self._findings: list[Finding] = []
        self._not_reached: list[Fault] = []
        self._kept: list[Fault] = []
        self._narrow: frozenset[str] = frozenset()
        # What an interrupt would lose, because nobody has looked again yet.
        self._seen_once: dict[Fault, tuple[Finding, ...]] = {}
        self._unsteady: list[Fault] = []

    def run(self) -> Report:
        started = time.monotonic()
        faults: list[Fault] = []
        points: tuple[Point, ...] = ()
        interrupted = False
        calls = 0
        try:
            clean = self._record()
            points, calls = clean.points, clean.calls
            faults = _plan(points, self._all_errnos)
            self._planned = len(faults)
            self._findings.extend(judge(clean, clean))
            self._narrow = self._calls_alone(clean, len(faults))
            self._run_all(faults, clean)
            if self._want_stacks:
                self._explain_all()
        except KeyboardInterrupt:
            interrupted = True
            self._findings.extend(
                dataclasses.replace(finding, detail=f"{finding.detail}; seen once")
                for findings in self._seen_once.values()
                for finding in findings
            )
        finally:
            self._stopping = True
            for stage in self._stages:
                stage.close()
        order = {fault: position for position, fault in enumerate(faults)}
        return Report(
            operation=str(self._operation),
            kind="function" if isinstance(self._operation, CallableOperation) else "command",
            points=points,
            calls=calls,
            faults=self._done + len(self._seen_once),
            planned=len(faults),
            findings=tuple(
                sorted(
                    self._findings, key=lambda one: -1 if one.fault is None else order[one.fault]
                )
            ),
            not_reached=tuple(sorted(self._not_reached, key=order.__getitem__)),
            kept=tuple(sorted(self._kept, key=order.__getitem__)),
            unsteady=tuple(sorted(self._unsteady, key=order.__getitem__)),
            interrupted=interrupted,
            seconds=time.monotonic() - started,
            kernel=platform.release(),
            python=platform.python_version(),
        )

    def _stage(self) -> Stage:
        """Return this thread's stage, which the sweep owns and ends."""
        stage: Stage | None = getattr(self._local, "stage", None)
        if stage is None:
            stage = Stage(self._operation, self._timeout)
            with self._lock:
                self._stages.append(stage)
            self._local.stage = stage
        return stage

    def _record(self) -> Outcome:
        stage = self._stage()
        if stage.raised:
            raise _fails_clean(self._operation, stage.raised)
        request = Request(record=True, timeout=self._timeout)
        try:
            first, second = stage.run(request), stage.run(request)
        except UnsupportedError:
            raise
        except OSError as error:
            raise OperationError(
                f"{str(self._operation)!r} cannot be started: {error}. A command must be a program for this "
                "machine, and there must be room for one more process."
            ) from error
        for outcome in (first, second):
            _check_clean(self._operation, outcome, self._timeout)
        differing = set(_keys(first)) ^ set(_keys(second))
        if differing:
            shown = ", ".join(map(str, sorted(differing)[:3]))
            raise OperationError(
                f"{str(self._operation)!r} is not repeatable: two clean runs made different system calls "
                f"({len(differing)} differ, such as {shown}). Take out what depends on time, chance, caches or "
                "a race between threads, or check a smaller part of it."
            )
        return second

    def _calls_alone(self, clean: Outcome, faults: int) -> frozenset[str]:
        """Find the calls that can be supervised alone, without the others that are only counted.

        What is counted must not change: a call of the loader's, for one, is known as such only
        until the program makes one of its own. So each is tried in a clean run.
        """
        names = {key.call for key in _keys(clean)}
        if len(names) * clean.seconds > faults * clean.calls * _ONE_CALL:
            return frozenset()
        stage = self._stage()
        alone = set()
        for name in names:
            outcome = stage.run(Request(record=True, timeout=self._timeout, only=name))
            if [key for key in _keys(outcome) if key.call == name] == [
                key for key in _keys(clean) if key.call == name
            ]:
                alone.add(name)
        return frozenset(alone)

    def _run_all(self, faults: Sequence[Fault], clean: Outcome) -> None:
        jobs = max(1, min(self._jobs, len(faults) // _FAULTS_PER_JOB))
        # Short runs are ordered several at a time; of long ones, each is judged before the next begins.
        size = _BATCH if clean.seconds < _SHORT else 1
        batches = [faults[index : index + size] for index in range(0, len(faults), size)]
        if jobs == 1:
            for batch in batches:
                self._run_batch(batch, clean)
            return
        executor = concurrent.futures.ThreadPoolExecutor(jobs, "fdproof-check")
        try:
            futures = [executor.submit(self._run_batch, batch, clean) for batch in batches]
            for future in concurrent.futures.as_completed(futures):
                future.result()
        except BaseException:
            self._stopping = True
            executor.shutdown(wait=False, cancel_futures=True)
            for stage in self._stages:
                stage.close()
            raise
        executor.shutdown()

    def _run_batch(self, faults: Sequence[Fault], clean: Outcome) -> None:
        if self._stopping:
            return
        stage = self._stage()
        requests = [
            Request(
                fault,
                timeout=self._timeout,
                only=fault.key.call if fault.key.call in self._narrow else None,
            )
            for fault in faults
        ]
        doubtful: dict[Fault, Outcome] = {}
        for fault, outcome in zip(faults, stage.run_each(requests), strict=True):
            findings = judge(outcome, clean)
            if outcome.reached and not findings:
                self._note(fault, outcome, (), ())
            else:
                doubtful[fault] = outcome
                with self._lock:
                    self._seen_once[fault] = findings
        for fault, outcome in doubtful.items():
            self._look_again(fault, outcome, stage, clean)

    def _look_again(self, fault: Fault, outcome: Outcome, stage: Stage, clean: Outcome) -> None:
        if not outcome.reached:
            # Threads and children interleave differently now and then.
            outcome = stage.run(Request(fault, timeout=self._timeout))
        findings = judge(outcome, clean)
        confirmed = [one for one in findings if self._holds(one, stage, clean)]
        self._note(fault, outcome, findings, confirmed)

    def _note(
        self,
        fault: Fault,
        outcome: Outcome,
        findings: Sequence[Finding],
        confirmed: Sequence[Finding],
    ) -> None:
        dropped = {one.verdict for one in findings} - {one.verdict for one in confirmed}
        with self._lock:
            self._done += 1
            self._seen_once.pop(fault, None)
            if not outcome.reached:
                self._not_reached.append(fault)
            if Verdict.LEAK in dropped:
                self._kept.append(fault)
            elif dropped:
                self._unsteady.append(fault)
            self._findings.extend(confirmed)
            if self._progress is not None:
                self._progress(self._done, self._planned, len(self._findings))

    def _holds(self, finding: Finding, stage: Stage, clean: Outcome) -> bool:
        """Look again before anything is called a finding: a verdict must be true."""
        if finding.fault is None or self._stopping:
            return True
        if finding.verdict is Verdict.HANG and clean.seconds < self._timeout / 10:
            return True
        if finding.verdict is Verdict.LEAK and isinstance(self._operation, CallableOperation):
            again = stage.run(Request(finding.fault, rounds=2, timeout=self._timeout))
            return grows(again, clean)
        again = stage.run(Request(finding.fault, timeout=self._timeout))
        return any(_same(finding, other) for other in judge(again, clean))

    def _explain_all(self) -> None:
        stage = self._stage()
        for position, finding in enumerate(self._findings):
            if finding.fault is not None and position < _MOST_EXPLAINED:
                self._findings[position] = self._explain(finding, stage)

    def _explain(self, finding: Finding, stage: Stage) -> Finding:
        """Run a failing fault once more, slower, to learn which calls made what is left, and from where."""
        assert finding.fault is not None
        if finding.verdict is Verdict.HANG:
            # The run costs the whole time limit; one look at the stacks does not pay for it.
            return finding
        request = Request(finding.fault, attribute=True, timeout=self._timeout)
        made = dict(stage.run(request).made_by)
        makers = {left.entry.number: made.get(left.entry.number) for left in finding.left}
        wanted = frozenset(key for key in makers.values() if key is not None)
        request = Request(finding.fault, stacks=wanted | {finding.fault.key}, timeout=self._timeout)
        seen: dict[PointKey, tuple[Frame, ...]] = dict(stage.run(request).stacks)
        return dataclasses.replace(
            finding,
            left=tuple(
                Left(left.entry, key, seen.get(key, ()) if key else ())
                for left in finding.left
                for key in (makers[left.entry.number],)
            ),
            stack=seen.get(finding.fault.key, ()),
        )


def _plan(points: Sequence[Point], all_errnos: bool) -> list[Fault]:
    return [
        Fault(point.key, errno)
        for point in points
        for errno in (point.errnos if all_errnos else point.errnos[:1])
    ]


def _keys(outcome: Outcome) -> list[PointKey]:
    return [point.key for point in outcome.points]


def _same(finding: Finding, other: Finding) -> bool:
    return finding.verdict is other.verdict and [one.entry.what for one in finding.left] == [
        one.entry.what for one in other.left
    ]


def _check_clean(operation: Operation, outcome: Outcome, timeout: float) -> None:
    if outcome.end is End.HUNG:
        raise OperationError(
            f"{str(operation)!r} does not end within {timeout:g} seconds when it runs undisturbed. Give it "
            "more with --timeout, or check something that ends."
        )
    raised = outcome.rounds[0].raised if outcome.rounds else ""
    if raised:
        raise _fails_clean(operation, raised)
    if outcome.end is End.KILLED or outcome.status != 0 or not outcome.rounds:
        said = outcome.stderr.strip().splitlines()
        raise _fails_clean(
            operation,
            f"it ended with status {outcome.status}" + (f", saying: {said[-1]}" if said else ""),
        )


def _fails_clean(operation: Operation, how: str) -> OperationError:
    return OperationError(
        f"{str(operation)!r} fails already when nothing is made to fail: {how}. Check something that "
        "succeeds, with its files, servers and environment in place, so that a difference means something."
    )
