"""Judge an outcome against the clean one: pure functions, one for each verdict."""

import collections
import signal
from collections.abc import Iterable, Iterator

from fdproof.check.records import End, Finding, Left, Outcome, Verdict
from fdproof.observe.snapshot import Entry

__all__ = ["grows", "judge"]


def judge(outcome: Outcome, clean: Outcome) -> tuple[Finding, ...]:
    """Return what a run brought to light.

    Args:
        outcome: the run with a fault, or the clean run itself.
        clean: the run without one.
    """
    return (
        *_leak(outcome, clean),
        *_lost(outcome, clean),
        *_crash(outcome),
        *_hang(outcome),
        *_survives_exec(outcome, clean),
    )


def grows(outcome: Outcome, clean: Outcome) -> bool:
    """Tell whether a run of two rounds left more after the second round than after the first.

    What stays the same is a cache or a lazily made singleton. When the second round did not get as
    far as the fault, the first stands.
    """
    if len(outcome.rounds) < 2 or outcome.reached < 2:
        return True
    first = _counted(_new(outcome.rounds[0].collected, clean))
    second = _counted(_new(outcome.rounds[1].collected, clean))
    return any(second[what] > count for what, count in first.items())


def _leak(outcome: Outcome, clean: Outcome) -> Iterator[Finding]:
    """Open after, not before, and not left by the clean run either; after garbage collection."""
    if outcome is clean or not outcome.rounds:
        return
    left = tuple(Left(entry) for entry in _new(outcome.rounds[0].collected, clean))
    if left:
        yield Finding(Verdict.LEAK, outcome.fault, left, _ending(outcome))


def _lost(outcome: Outcome, clean: Outcome) -> Iterator[Finding]:
    """There before the operation; now gone, or another file."""
    if outcome is clean or not outcome.rounds:
        return
    usual = {entry.number for one in clean.rounds[:1] for entry in (*one.gone, *one.replaced)}
    one = outcome.rounds[0]
    for entries, detail in ((one.gone, "closed"), (one.replaced, "replaced by another file")):
        lost = tuple(Left(entry) for entry in entries if entry.number not in usual)
        if lost:
            yield Finding(Verdict.LOST, outcome.fault, lost, detail)


def _crash(outcome: Outcome) -> Iterator[Finding]:
    """The operation's process died instead of dealing with the error."""
    if outcome.end is End.KILLED and outcome.status is not None:
        yield Finding(
            Verdict.CRASH,
            outcome.fault,
            detail=f"killed by {_signal(-outcome.status)}{_said(outcome)}",
        )
    elif outcome.end is End.EXITED and not outcome.rounds:
        yield Finding(
            Verdict.CRASH,
            outcome.fault,
            detail=f"the process ended in the middle, with status {outcome.status}{_said(outcome)}",
        )


def _hang(outcome: Outcome) -> Iterator[Finding]:
    """The operation did not end within the time limit."""
    if outcome.end is End.HUNG:
        yield Finding(
            Verdict.HANG,
            outcome.fault,
            detail=f"no end within {outcome.limit:g} s",
            waiting=outcome.waiting,
        )


def _survives_exec(outcome: Outcome, clean: Outcome) -> Iterator[Finding]:
    """Open over an exec, made without close-on-exec, and nobody asked for it."""
    known = set() if outcome is clean else {_exec_key(one) for one in _survivors(clean)}
    for one in _survivors(outcome):
        if _exec_key(one) not in known:
            known.add(_exec_key(one))
            program, entry = one
            yield Finding(Verdict.SURVIVES_EXEC, outcome.fault, (Left(entry),), f"into {program}")


def _survivors(outcome: Outcome) -> Iterator[tuple[str, Entry]]:
    for one in outcome.execs:
        for entry in one.survivors:
            yield one.program, entry


def _exec_key(one: tuple[str, Entry]) -> tuple[str, str]:
    return one[0], one[1].what


def _new(entries: Iterable[Entry], clean: Outcome) -> list[Entry]:
    """Leave out as many of each kind as the clean run leaves, too."""
    usual = _counted(clean.rounds[0].collected if clean.rounds else ())
    new = []
    for entry in entries:
        if usual[entry.what] > 0:
            usual[entry.what] -= 1
        else:
            new.append(entry)
    return new


def _counted(entries: Iterable[Entry]) -> "collections.Counter[str]":
    return collections.Counter(entry.what for entry in entries)


def _ending(outcome: Outcome) -> str:
    if outcome.end is End.EXITED:
        return f"still open when the program exited with status {outcome.status}"
    raised = outcome.rounds[0].raised
    return f"still open after it raised {raised}" if raised else "still open after it returned"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _said(outcome: Outcome) -> str:
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else ""
