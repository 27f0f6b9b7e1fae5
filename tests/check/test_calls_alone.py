"""A call is supervised alone only where that changes nothing: same points, same findings."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fdproof.check.executor import Stage
from fdproof.check.operation import CommandOperation
from fdproof.check.records import PointKey, Request
from fdproof.check.sweep import sweep

# Its first call is a read of its own; the opens come from the loader, long after the start.
OPENS_LATE = """
#include <dlfcn.h>
#include <unistd.h>
int main(void) {
    char byte;
    if (read(0, &byte, 1) < 0) return 1;
    dlopen("libm.so.6", RTLD_NOW);
    return 0;
}
"""

pytestmark = pytest.mark.requires_kernel("seccomp notifier")


@pytest.fixture
def opens_late(tmp_path: Path) -> CommandOperation:
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    source, program = tmp_path / "late.c", tmp_path / "late"
    source.write_text(OPENS_LATE)
    subprocess.run(["cc", "-o", program, source, "-ldl"], check=True)
    return CommandOperation((str(program),))


def keys(stage: Stage, call: str, *, alone: bool) -> list[PointKey]:
    outcome = stage.run(Request(record=True, only=call if alone else None))
    return [point.key for point in outcome.points if point.key.call == call]


def test_what_the_loader_opens_late_is_lost_when_only_opens_are_seen(
    opens_late: CommandOperation,
) -> None:
    """Why each call is tried: alone, the loader's own call looks like its start-up."""
    with Stage(opens_late, 10) as stage:
        assert keys(stage, "openat", alone=False)
        assert keys(stage, "openat", alone=True) == []


def test_such_a_call_is_supervised_with_the_others(opens_late: CommandOperation) -> None:
    report = sweep(opens_late, jobs=1, stacks=False)

    assert "openat" in {point.key.call for point in report.points}
    assert report.faults == report.planned == len(report.points)
    assert report.not_reached == ()


def test_alone_or_not_the_findings_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    operation = CommandOperation(("sh", "-c", "cat /etc/passwd; cat /etc/passwd"))
    narrow = sweep(operation, jobs=1, stacks=False)
    monkeypatch.setattr("fdproof.check.sweep._ONE_CALL", 0.0)
    wide = sweep(operation, jobs=1, stacks=False)

    assert narrow.points == wide.points
    assert [(one.verdict, one.fault, one.detail) for one in narrow.findings] == [
        (one.verdict, one.fault, one.detail) for one in wide.findings
    ]
    assert narrow.not_reached == wide.not_reached == ()
