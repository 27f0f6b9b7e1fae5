"""The report as text: the findings first, grouped by what they are about, then one line that sums up."""

import os
import sysconfig
from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from fdproof.check.records import Fault, Finding, Frame, Report, Verdict

__all__ = ["as_text"]

_MOST_FAULTS = 10
# Files below these are named as they are imported.
_LIBRARIES = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_HEADLINES = {
    Verdict.LEAK: ("LEAK", "bold red"),
    Verdict.LOST: ("LOST", "bold red"),
    Verdict.CRASH: ("CRASH", "bold magenta"),
    Verdict.HANG: ("HANG", "bold magenta"),
    Verdict.SURVIVES_EXEC: ("SURVIVES EXEC", "bold yellow"),
}


def as_text(report: Report, directory: str | None = None) -> Text:
    """Return the report for a terminal; plain when the terminal is.

    Args:
        report: what to show.
        directory: paths below it are shown relative to it; the current one by default.
    """
    base = os.getcwd() if directory is None else directory
    text = Text()
    ordered = sorted(report.findings, key=lambda one: _signature(one, base))
    for _, group in groupby(ordered, key=lambda one: _signature(one, base)):
        _group(text, list(group), base)
    _summary(text, report)
    return text


def _signature(finding: Finding, base: str) -> tuple[object, ...]:
    return (
        list(Verdict).index(finding.verdict),
        tuple(
            (left.entry.what, str(left.made), *(_line(frame, base) for frame in left.stack[:1]))
            for left in finding.left
        ),
        "" if finding.verdict is Verdict.LEAK else finding.detail,
        tuple(_line(frame, base) for frame in finding.waiting[:1]),
    )


def _group(text: Text, findings: Sequence[Finding], base: str) -> None:
    first = findings[0]
    headline, style = _HEADLINES[first.verdict]
    text.append(headline, style)
    text.append(f"  {_subject(first)}\n")
    width = max((len(left.entry.what) for left in first.left), default=0)
    for left in first.left:
        text.append(f"  {left.entry.number:>5}  {left.entry.what:{width}}")
        if left.made is not None:
            text.append(f"  made by {left.made}")
            _place(text, left.stack[:1], base)
        text.append("\n")
    if first.waiting:
        text.append(f"{'waits':>7}")
        _place(text, _callers(first.waiting), base)
        text.append("\n")
    label, told = "when", ""
    for finding in findings[:_MOST_FAULTS]:
        if finding.fault is None:
            continue
        text.append(f"  {label:>5}  {finding.fault}")
        _place(text, _callers(finding.stack), base)
        text.append("\n")
        if finding.verdict is Verdict.LEAK and finding.detail != told:
            told = finding.detail
            text.append(f"         {told}\n", "dim")
        label = "or"
    if len(findings) > _MOST_FAULTS:
        text.append(f"         and at {len(findings) - _MOST_FAULTS} more faults\n", "dim")
    text.append("\n")


def _subject(finding: Finding) -> str:
    count = len(finding.left)
    several = f"{count} descriptors" if count > 1 else "1 descriptor"
    match finding.verdict:
        case Verdict.LEAK:
            return f"{several} left open"
        case Verdict.LOST:
            return f"{several} that {'were' if count > 1 else 'was'} there before: {finding.detail}"
        case Verdict.SURVIVES_EXEC:
            return f"{several} {finding.detail}, and nobody asked for it"
    return finding.detail


def _callers(stack: Sequence[Frame]) -> Sequence[Frame]:
    """Return the innermost line, and the line in another file that led there."""
    return [*stack[:1], *[frame for frame in stack if frame.file != stack[0].file][:1]]


def _place(text: Text, frames: Sequence[Frame], base: str) -> None:
    for frame, word in zip(frames, ("at", "called from"), strict=False):
        text.append(f"\n         {word} " if word == "called from" else f"  {word} ")
        text.append(_line(frame, base), "cyan")


def _line(frame: Frame, base: str) -> str:
    path = frame.file
    # The longest first: site-packages lies inside the standard library's directory.
    for root in sorted((base, *_LIBRARIES), key=len, reverse=True):
        if path.startswith(root + os.sep):
            path = os.path.relpath(path, root)
            break
    return f"{path}:{frame.line} in {frame.function}"


def _summary(text: Text, report: Report) -> None:
    if report.interrupted:
        text.append("Interrupted: ", "bold")
        text.append(f"{report.faults} of {report.planned} faults were run.\n")
    count = len(report.findings)
    if count:
        text.append(f"{count} finding{'' if count == 1 else 's'}", "bold red")
    elif report.interrupted:
        text.append("nothing found so far")
    elif report.not_reached:
        # Not reached is not passed.
        text.append("nothing found", "bold")
    else:
        text.append("clean", "bold green")
    text.append(
        f": {report.faults} fault{'' if report.faults == 1 else 's'} at {len(report.points)} system "
        f"call{'' if len(report.points) == 1 else 's'} of {report.operation} in {report.seconds:.1f} s\n"
    )
    _note(text, report.not_reached, "did not come up again in their run, and say nothing")
    _note(text, report.kept, "left something once but not once more: a cache, not a leak")
    _note(text, report.unsteady, "showed something that did not come up a second time")


def _note(text: Text, faults: Sequence[Fault], what: str) -> None:
    if faults:
        named = ", ".join(str(fault.key) for fault in faults[:3])
        more = ", ..." if len(faults) > 3 else ""
        text.append(f"{len(faults)} of them {what} ({named}{more})\n", "dim")
