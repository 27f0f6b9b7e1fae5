"""Sweep the operations that the tests bring along."""

from pathlib import Path
from typing import Any

from fdproof.check.operation import CallableOperation
from fdproof.check.records import Fault, Finding, PointKey, Report
from fdproof.check.sweep import sweep

DIRECTORY = Path(__file__).parent


def operation(name: str, file: str = "operations.py") -> CallableOperation:
    return CallableOperation(f"{DIRECTORY / file}:{name}")


def swept(name: str, file: str = "operations.py", **options: Any) -> Report:
    return sweep(operation(name, file), **{"stacks": False, **options})


def fault(call: str, errno: str, occurrence: int = 1, task: str = "0") -> Fault:
    return Fault(PointKey(task, call, occurrence), errno)


def what(finding: Finding) -> list[str]:
    return [left.entry.what for left in finding.left]
