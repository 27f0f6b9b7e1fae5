"""Sweep the operations that the tests bring along."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fdproof.check.operation import CallableOperation, OperationError
from fdproof.check.records import Fault, Finding, PointKey, Report
from fdproof.check.sweep import sweep

DIRECTORY = Path(__file__).parent


def operation(name: str, file: str = "operations.py") -> CallableOperation:
    return CallableOperation(f"{DIRECTORY / file}:{name}")


def swept(name: str, file: str = "operations.py", **options: Any) -> Report:
    return sweep(operation(name, file), **{"stacks": False, **options})


def asked_again(sweeping: Callable[[], Report]) -> Report:
    """Sweep what is repeatable only mostly: where processes race, two clean runs differ now and then."""
    tries = 0
    while True:
        try:
            return sweeping()
        except OperationError as error:
            tries += 1
            if "is not repeatable" not in str(error) or tries == 10:
                raise


def fault(call: str, errno: str, occurrence: int = 1, task: str = "0") -> Fault:
    return Fault(PointKey(task, call, occurrence), errno)


def what(finding: Finding) -> list[str]:
    return [left.entry.what for left in finding.left]
