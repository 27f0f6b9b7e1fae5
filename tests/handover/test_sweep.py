"""Every system call of every operation of handover fails in turn, and nothing is left or lost."""

from collections.abc import Callable
from pathlib import Path

import pytest

import fdproof.handover
from fdproof.check.operation import CallableOperation
from fdproof.check.sweep import sweep
from fdproof.report.text import as_text
from tests.handover import operations
from tests.sweep import cases
from tests.sweep.test_sweep import public_names

FILE = Path(operations.__file__)


@pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd", "SO_PASSPIDFD")
@pytest.mark.parametrize("operation", operations.OPERATIONS, ids=lambda one: one.__name__)
def test_nothing_is_left_whatever_fails(operation: Callable[[], None]) -> None:
    report = sweep(
        CallableOperation(f"{FILE}:{operation.__name__}"), all_errnos=True, stacks=False, jobs=1
    )

    assert report.findings == (), str(as_text(report))
    assert report.not_reached == report.kept == report.unsteady == ()
    assert report.faults == report.planned >= len(report.points) > 0


def test_every_public_operation_has_one() -> None:
    covered = {
        name for names in (*operations.COVERS.values(), *cases.COVERS.values()) for name in names
    }
    exempt = {*operations.EXEMPT, *cases.EXEMPT}

    assert public_names(fdproof.handover) - covered - exempt == set()
    assert covered & exempt == set()
    assert {name for name in covered if "handover" in name} <= public_names(fdproof.handover)
