"""The report as text: the findings first, grouped by what they are about, then one line that sums up."""

import os
import sysconfig
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.text import Text

from fdproof.check.records import Fault, Finding, Frame, Left, Report, Verdict

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
        tuple((left.entry.what, _place(left.stack, base), str(left.made)) for left in finding.left),
        "" if finding.verdict is Verdict.LEAK else finding.detail,
    )


def _group(text: Text, findings: Sequence[Finding], base: str) -> None:
    first = findings[0]
    headline, style = _HEADLINES[first.verdict]
    text.append(headline, style)
    text.append(f"  {_things(first.left) if first.left else first.detail}\n")
    if first.left and first.verdict is not Verdict.LEAK:
        text.append(f"  {first.detail}\n")
    for made, stack in dict.fromkeys((left.made, left.stack) for left in first.left):
        if made is not None:
            _row(text, "made by", str(made), stack, base)
    shown = findings[:_MOST_FAULTS]
    label = "when"
    for finding in shown:
        if finding.fault is not None:
            _row(text, label, str(finding.fault), finding.stack, base)
            label = "or when"
            if finding.verdict is Verdict.LEAK:
                text.append(f"{'':12}{finding.detail}\n", "dim")
    if len(findings) > len(shown):
        text.append(f"{'':12}and in {len(findings) - len(shown)} more faults\n", "dim")
    text.append("\n")


def _row(text: Text, label: str, what: str, stack: Sequence[Frame], base: str) -> None:
    text.append(f"  {label:8}  {what}")
    place = _place(stack, base)
    if place:
        text.append("  at ")
        text.append(place, "cyan")
    text.append("\n")


def _things(left: Iterable[Left]) -> str:
    return ", ".join(f"{one.entry.what} (descriptor {one.entry.number})" for one in left)


def _place(stack: Sequence[Frame], base: str) -> str:
    """Return the innermost line, and the line that called it from another file."""
    if not stack:
        return ""
    frames = [stack[0]]
    frames += [frame for frame in stack[1:] if frame.file != stack[0].file][:1]
    return ", called from ".join(_line(frame, base) for frame in frames)


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
    text.append(
        f"{count} finding{'' if count == 1 else 's'}" if count else "clean",
        "bold red" if count else "bold green",
    )
    text.append(
        f": {report.faults} faults at {len(report.points)} system calls of {report.operation}"
        f" in {report.seconds:.1f} s\n"
    )
    _note(text, report.not_reached, "did not come up again in their run, and say nothing")
    _note(text, report.kept, "left something once but not once more: a cache, not a leak")


def _note(text: Text, faults: Sequence[Fault], what: str) -> None:
    if faults:
        named = ", ".join(str(fault.key) for fault in faults[:3])
        more = ", ..." if len(faults) > 3 else ""
        text.append(f"{len(faults)} of them {what} ({named}{more})\n", "dim")


