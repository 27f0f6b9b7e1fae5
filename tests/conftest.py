"""The rules that every test lives under: what it needs, and what it must leave as it was."""

import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.kernel_features import FEATURES, available, expected

# Examples touch the kernel, and a busy machine must not turn into a failed test; what failed
# once is printed as code, since the example database stays on the machine where it ran.
hypothesis.settings.register_profile("fdproof", deadline=None, print_blob=True)
hypothesis.settings.load_profile("fdproof")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-kernel",
        action="store_true",
        help="a missing kernel feature or program fails the test that needs it, where it would skip",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    unknown = {
        f"{item.nodeid} requires {feature!r}"
        for item in items
        for marker in item.iter_markers("requires_kernel")
        for feature in marker.args
        if feature not in FEATURES
    }
    if unknown:
        raise pytest.UsageError(
            "no such name in tests/kernel_features.py: " + "; ".join(sorted(unknown))
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")
    missing = [
        feature
        for marker in item.iter_markers("requires_kernel")
        for feature in marker.args
        if not available(feature)
    ]
    for feature in missing:
        if not expected(feature):
            pytest.skip(f"this kernel is too old for {feature}")
    lacking = [f"this kernel lacks {feature}" for feature in missing]
    lacking += [
        f"this machine lacks the program {name}"
        for marker in item.iter_markers("requires_program")
        for name in marker.args
        if shutil.which(name) is None
    ]
    if lacking:
        if item.config.getoption("--require-kernel"):
            pytest.fail(lacking[0], pytrace=False)
        pytest.skip(lacking[0])


def _table() -> dict[int, str]:
    """This process's table: what each number refers to."""
    table = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the listing's own descriptor
        # A file that lives on in the table may be unlinked by the test: it is the same file.
        table[int(name)] = target.removesuffix(" (deleted)")
    return table


def _children() -> set[str]:
    """The children of this process, unreaped ones included."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update((task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread that was joined, and is only now going
    return found


def _changes(table: dict[int, str], children: set[str]) -> list[str]:
    now = _table()
    return [
        *(f"left open: {number} -> {now[number]}" for number in sorted(now.keys() - table.keys())),
        *(f"lost: {number} -> {table[number]}" for number in sorted(table.keys() - now.keys())),
        *(
            f"replaced: {number} -> {table[number]}, now {now[number]}"
            for number in sorted(table.keys() & now.keys())
            if table[number] != now[number]
        ),
        *(f"left a child process: {child}" for child in sorted(_children() - children)),
    ]


@pytest.fixture(autouse=True)
def _leaves_nothing_behind() -> Iterator[None]:
    """Fail the test that changes the table or leaves a child: the library's first promise."""
    table, children = _table(), _children()
    yield
    if _changes(table, children):
        # Only now: a full collection after each test would double the time of the suite.
        gc.collect()
        if changes := _changes(table, children):
            pytest.fail("this test did not clean up:\n" + "\n".join(changes), pytrace=False)
