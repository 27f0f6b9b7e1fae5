"""Every public operation survives every failure of every system call that it makes."""

import inspect
from types import ModuleType

import pytest

import fdproof
import fdproof.notifier
import fdproof.passing
from fdproof.observe import snapshot
from tests.check.swept import DIRECTORY as CHECK_DIRECTORY
from tests.check.swept import swept
from tests.sweep import cases

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

CASES = [
    name
    for name, function in inspect.getmembers(cases, inspect.isfunction)
    if function.__module__ == cases.__name__ and not name.startswith("_") and name != "covers"
]
FILE = str((CHECK_DIRECTORY / ".." / "sweep" / "cases.py").resolve())


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.requires_kernel(*cases.NEEDS.get(case, ())))
        for case in CASES
    ],
)
def test_nothing_is_left_or_lost_whatever_fails(case: str) -> None:
    report = swept(case, FILE, all_errnos=True, timeout=20, jobs=1)

    assert report.findings == ()
    assert report.not_reached == report.kept == report.unsteady == ()
    assert report.faults == report.planned >= len(report.points) > 0


def public_names(module: ModuleType) -> set[str]:
    """What a module lists, and the methods of its classes; not exceptions, flags and values."""
    found = set()
    for name in module.__all__:
        value = getattr(module, name)
        if not callable(value):
            continue
        if isinstance(value, type):
            if issubclass(value, BaseException) or hasattr(value, "__members__"):
                continue
            found |= {
                f"{module.__name__}.{name}.{attribute}"
                for attribute in vars(value)
                if not attribute.startswith("_")
            }
        found.add(f"{module.__name__}.{name}")
    return found


@pytest.mark.parametrize(
    "module",
    [fdproof, fdproof.notifier, fdproof.passing],
    ids=lambda module: module.__name__,
)
def test_every_public_operation_has_a_case(module: ModuleType) -> None:
    covered = {name for names in cases.COVERS.values() for name in names}

    assert public_names(module) - covered - set(cases.EXEMPT) == set()


def test_a_snapshot_has_its_cases_too() -> None:
    covered = {name for names in cases.COVERS.values() for name in names}

    assert {
        f"{snapshot.__name__}.{name}" for name in snapshot.__all__ if name != "Entry"
    } <= covered


def test_cases_and_exemptions_name_what_exists() -> None:
    existing = (
        public_names(fdproof)
        | public_names(fdproof.notifier)
        | public_names(fdproof.passing)
        | {f"{snapshot.__name__}.{name}" for name in snapshot.__all__}
    )
    covered = {name for names in cases.COVERS.values() for name in names}

    assert (covered | set(cases.EXEMPT)) - existing == set()
    assert covered & set(cases.EXEMPT) == set()
    assert set(cases.COVERS) | set(cases.NEEDS) <= set(CASES)
