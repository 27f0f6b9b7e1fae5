"""The report as JSON, stable and versioned: everything that the other forms show is in it."""

import json
from typing import Any

from fdproof.check.records import Fault, Finding, Frame, Left, PointKey, Report

__all__ = ["VERSION", "as_json", "as_plain"]

VERSION = 1


def as_json(report: Report) -> str:
    """Return the report as a JSON document."""
    return json.dumps(as_plain(report), indent=2) + "\n"


def as_plain(report: Report) -> dict[str, Any]:
    """Return the report as plain dictionaries, lists, strings and numbers."""
    return {
        "version": VERSION,
        "operation": report.operation,
        "kind": report.kind,
        "kernel": report.kernel,
        "python": report.python,
        "seconds": round(report.seconds, 3),
        "interrupted": report.interrupted,
        "calls": report.calls,
        "points": [
            {**_key(point.key), "on": point.on, "errnos": list(point.errnos)}
            for point in report.points
        ],
        "faults": {"planned": report.planned, "run": report.faults},
        "findings": [_finding(finding) for finding in report.findings],
        "not_reached": [_fault(fault) for fault in report.not_reached],
        "kept": [_fault(fault) for fault in report.kept],
        "unsteady": [_fault(fault) for fault in report.unsteady],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "verdict": finding.verdict.value,
        "detail": finding.detail,
        "fault": None if finding.fault is None else _fault(finding.fault),
        "stack": [_frame(frame) for frame in finding.stack],
        "waiting": [_frame(frame) for frame in finding.waiting],
        "descriptors": [_left(left) for left in finding.left],
    }


def _left(left: Left) -> dict[str, Any]:
    return {
        "number": left.entry.number,
        "what": left.entry.what,
        "target": left.entry.target,
        "close_on_exec": left.entry.close_on_exec,
        "made_by": None if left.made is None else _key(left.made),
        "stack": [_frame(frame) for frame in left.stack],
    }


def _fault(fault: Fault) -> dict[str, Any]:
    return {**_key(fault.key), "errno": fault.errno}


def _key(key: PointKey) -> dict[str, Any]:
    return {"task": key.task, "call": key.call, "occurrence": key.occurrence}


def _frame(frame: Frame) -> dict[str, Any]:
    return {"file": frame.file, "line": frame.line, "function": frame.function}
