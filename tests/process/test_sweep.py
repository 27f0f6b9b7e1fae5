"""Every system call of every operation on processes fails in turn, and nothing is left of any."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fdproof.check.operation import CallableOperation
from fdproof.check.records import Report, Verdict
from fdproof.check.sweep import sweep
from fdproof.report.text import as_text
from tests.check.swept import asked_again
from tests.process import operations

pytestmark = [
    pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd", "close_range"),
    pytest.mark.timeout(300),
]


def swept(operation: Callable[[], None]) -> Report:
    place = Path(operations.__file__)
    target = CallableOperation(f"{place}:{operation.__name__}")
    return asked_again(lambda: sweep(target, all_errnos=True, stacks=False))


@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda one: one.__name__)
def test_nothing_is_left_whatever_fails(operation: Callable[[], None]) -> None:
    report = swept(operation)

    assert report.findings == (), str(as_text(report))
    assert report.faults >= 2
    # A child that is killed may not come as far as it came when the points were recorded.
    assert [fault for fault in report.not_reached if fault.key.task == "0"] == []


def test_a_lost_child_is_a_finding() -> None:
    """The experiment can fail."""
    findings = swept(operations.lost_child).findings

    assert {finding.verdict for finding in findings} == {Verdict.CRASH}
