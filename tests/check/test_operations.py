"""Each verdict, found end to end by sweeping a small operation; and what must not be found."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fdproof.check import errnos
from fdproof.check.operation import CommandOperation
from fdproof.check.records import Report, Verdict
from fdproof.check.sweep import sweep
from tests.check.swept import DIRECTORY, fault, operation, swept, what

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

# Pipe ends and events are told by kind, files by name.
PIPE = ["the reading end of a pipe", "the writing end of a pipe"]


@pytest.mark.parametrize(
    ("name", "failing", "left"),
    [
        ("leaks_a_pipe", fault("openat", "EMFILE"), PIPE),
        ("leaks_a_file", fault("eventfd2", "EMFILE"), ["/proc/{pid}/comm, open for reading"]),
        ("leaks_a_socket", fault("socketpair", "EMFILE"), ["a socket"]),
    ],
)
def test_leak(name: str, failing: object, left: list[str]) -> None:
    report = swept(name)

    (found,) = report.findings
    assert (found.verdict, found.fault) == (Verdict.LEAK, failing)
    said = ["/proc/{pid}/comm, open for reading" if "comm" in one else one for one in what(found)]
    assert said == left
    assert all(one.entry.number > 2 and one.entry.close_on_exec for one in found.left)
    assert "still open after it raised OSError: [Errno 24]" in found.detail
    assert report.not_reached == report.kept == ()
    assert report.faults == report.planned == len(report.points)


def test_leaks_at_each_step() -> None:
    report = swept("leaks_three_kinds")

    assert [(one.fault, len(one.left)) for one in report.findings] == [
        (fault("eventfd2", "EMFILE"), 2),
        (fault("openat", "EMFILE"), 3),
    ]


def test_a_leak_of_an_operation_that_returns() -> None:
    (found,) = swept("leaks_and_returns").findings

    assert (found.verdict, what(found)) == (Verdict.LEAK, ["an eventfd"])
    assert found.detail == "still open after it returned"


def test_who_made_it_and_from_where() -> None:
    (found,) = swept("leaks_a_pipe", stacks=True).findings

    assert [str(one.made) for one in found.left] == ["pipe2 #1"] * 2
    places = {(one.stack[0].file, one.stack[0].function) for one in found.left if one.stack}
    if not places and os.geteuid():
        pytest.skip("this user may not look at stacks")
    assert places == {(str(DIRECTORY / "operations.py"), "leaks_a_pipe")}
    assert found.stack[0].line == found.left[0].stack[0].line + 1


@pytest.mark.parametrize(
    ("name", "detail"),
    [("closes_a_strangers", "closed"), ("replaces_a_strangers", "replaced by another file")],
)
def test_lost(name: str, detail: str) -> None:
    findings = swept(name).findings

    assert {(one.verdict, one.detail) for one in findings} == {(Verdict.LOST, detail)}
    assert findings[0].fault == fault("openat", "EMFILE")
    assert [one.entry.number for one in findings[0].left] == [0]


@pytest.mark.requires_kernel("kcmp")
def test_lost_is_seen_by_identity() -> None:
    """The same file opened again is another open file: only the kernel can tell."""
    (found,) = swept("replaces_a_strangers").findings

    assert what(found) == ["/dev/null, open for reading and writing"]


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("aborts", "killed by SIGABRT"),
        ("leaves", "the process ended in the middle, with status 3: last words"),
    ],
)
def test_crash(name: str, detail: str) -> None:
    (found,) = swept(name).findings

    assert (found.verdict, found.fault) == (Verdict.CRASH, fault("openat", "EMFILE"))
    assert found.detail == detail


def test_hang() -> None:
    (found,) = swept("hangs", timeout=0.5).findings

    assert (found.verdict, found.fault) == (Verdict.HANG, fault("openat", "EMFILE"))


def test_survives_exec() -> None:
    findings = swept("survives_exec").findings

    (found,) = [one for one in findings if one.fault is None]
    assert found.verdict is Verdict.SURVIVES_EXEC
    assert found.detail == "into /bin/sh"
    assert [one.entry.close_on_exec for one in found.left] == [False]
    assert findings == (found,), "said once, not again with every fault"


@pytest.mark.parametrize(
    "name",
    [
        "asks_to_survive",
        "clean",
        "clean_in_a_thread",
        "clean_in_a_child",
        "clean_coroutine",
        "garbage",
        "keeps_a_singleton",
        "raises_in_a_fork",
        "returns_in_a_fork",
    ],
)
def test_nothing_to_find(name: str) -> None:
    report = swept(name)

    assert report.findings == ()
    assert report.not_reached == report.kept == ()
    assert report.faults == report.planned > 0


def test_an_operation_without_system_calls() -> None:
    report = swept("nothing")

    assert (report.points, report.faults, report.findings) == ((), 0, ())


def test_what_is_kept_is_not_a_leak() -> None:
    report = swept("keeps_a_fallback")

    assert report.findings == ()
    assert report.kept == (fault("eventfd2", "EMFILE"),)


def test_what_was_not_reached_has_not_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATION_DIRECTORY", str(tmp_path))

    report = swept("vanishing_point", "unfit.py", jobs=1)

    assert report.not_reached == (fault("eventfd2", "EMFILE"),)
    assert report.findings == ()


def test_points_have_the_errnos_of_the_table() -> None:
    report = swept("leaks_a_pipe")

    assert [str(point.key) for point in report.points] == ["pipe2 #1", "openat #1"]
    for point in report.points:
        call = errnos.call_for(point.key.call, (0,) * 6)
        assert call is not None
        assert point.errnos == tuple(one.name for one in call.errnos)
    assert report.calls >= len(report.points)
    assert (report.kind, report.interrupted) == ("function", False)


def test_all_errnos_are_all_that_the_table_has() -> None:
    report = swept("leaks_a_pipe", all_errnos=True)

    assert report.faults == sum(len(point.errnos) for point in report.points)
    openat = next(point for point in report.points if point.key.call == "openat")
    assert [one.fault for one in report.findings] == [
        fault("openat", name) for name in openat.errnos
    ]


def told(report: Report) -> list[tuple[Verdict, object, list[str]]]:
    """The findings without what no two runs have in common."""
    return [(one.verdict, one.fault, what(one)) for one in report.findings]


def test_jobs_do_not_change_the_findings() -> None:
    one, two = (swept("many_points", jobs=jobs) for jobs in (1, 2))

    assert told(one) == told(two) != []
    assert one.points == two.points
    assert one.faults == two.faults == one.planned == 42


def test_progress_is_told_after_each_fault() -> None:
    seen: list[tuple[int, int, int]] = []

    report = swept("leaks_a_pipe", progress=lambda *told: seen.append(told), jobs=1)

    assert [(done, total) for done, total, _ in seen] == [(1, 2), (2, 2)]
    assert seen[-1][2] == len(report.findings) == 1


PROGRAM = """
#include <fcntl.h>
#include <unistd.h>
#include <sys/eventfd.h>
int main(void)
{
    int event = eventfd(0, EFD_CLOEXEC);
    int file;
    if (event < 0)
        return 0;
    file = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    close(file);
    close(event);
    return 0;
}
"""


def command(*arguments: str) -> Report:
    return sweep(CommandOperation(arguments), stacks=False)


@pytest.mark.parametrize("options", [(), ("-static",)], ids=["dynamic", "static"])
def test_a_program(tmp_path: Path, options: tuple[str, ...]) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    path = str(tmp_path / "program")
    built = subprocess.run(
        [compiler, *options, "-o", path, str(source)], check=False, capture_output=True
    )
    if built.returncode:
        pytest.skip("it cannot be linked statically here")

    report = command(path)

    assert report.kind == "command"
    assert [str(point.key) for point in report.points if point.key.call != "newfstatat"] == [
        "eventfd2 #1",
        "openat #1",
    ]
    (found,) = report.findings
    assert (found.verdict, found.fault) == (Verdict.LEAK, fault("openat", "EMFILE"))
    assert what(found) == ["an eventfd"]
    assert found.detail == "still open when the program exited with status 0"


@pytest.mark.parametrize("script", ["pass", "open('/proc/self/comm').read()"])
def test_an_interpreter(script: str) -> None:
    """Start-up has its own error paths, all of them clean: some end with a status, none is a finding."""
    report = command(sys.executable, "-ISc", script)

    assert report.findings == ()
    assert report.faults == report.planned > 20


def test_a_shell_that_does_nothing() -> None:
    assert command("sh", "-c", ":").findings == ()


def test_an_operation_is_named_as_it_was_given() -> None:
    assert command("true").operation == "true"
    assert swept("nothing").operation == str(operation("nothing"))
