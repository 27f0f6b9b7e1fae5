"""The command line: exit statuses, the report as text and as JSON, and its options."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fdproof.check.records import Verdict
from fdproof.report.json import VERSION, as_json, as_plain
from fdproof.report.text import as_text
from tests.check.command_line import FDPROOF, check, environment
from tests.check.swept import DIRECTORY, swept
from tests.core.child import refuse

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

OPERATIONS = DIRECTORY / "operations.py"
LEAK = f"{OPERATIONS}:leaks_a_pipe"
CLEAN = f"{OPERATIONS}:clean"


def test_clean(tmp_path: Path) -> None:
    result = check(tmp_path, CLEAN)

    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("clean: ")
    assert f" system calls of {CLEAN} in " in result.out


def test_findings(tmp_path: Path) -> None:
    result = check(tmp_path, "--no-stacks", LEAK)

    assert (result.status, result.err) == (1, "")
    lines = result.out.splitlines()
    assert lines[0] == "LEAK  2 descriptors left open"
    assert lines[1].split(maxsplit=1)[1].startswith("the reading end of a pipe")
    assert "openat #1 fails with EMFILE" in lines[3]
    assert lines[-1].startswith("1 finding: 2 faults at 2 system calls of ")


def test_findings_with_stacks(tmp_path: Path) -> None:
    result = check(OPERATIONS.parent, LEAK)
    if os.geteuid() and " at operations.py:" not in result.out:
        pytest.skip("this user may not look at stacks")

    number = next(
        index
        for index, line in enumerate(OPERATIONS.read_text().splitlines(), 1)
        if "os.pipe()" in line
    )
    assert f"made by pipe2 #1  at operations.py:{number} in leaks_a_pipe" in result.out
    assert f"fails with EMFILE  at operations.py:{number + 1} in leaks_a_pipe" in result.out


def test_a_command(tmp_path: Path) -> None:
    result = check(tmp_path, "--", "sh", "-c", ":")

    assert result.status == 0
    assert "system calls of sh -c : in " in result.out


def test_a_module_in_the_current_directory(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("import os\ndef f(): os.close(os.eventfd(0))\n")

    assert check(tmp_path, "beside:f").out.startswith("clean: 1 fault at 1 system call of beside:f")


@pytest.mark.parametrize(
    ("call", "number", "arguments"),
    [
        ("seccomp", 1, ("--", "true")),
        ("seccomp", 22, (CLEAN,)),
        ("pidfd_getfd", 1, (CLEAN,)),
        ("pidfd_open", 38, (CLEAN,)),
    ],
)
def test_not_supported_here(
    call: str, number: int, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """Under a sandbox that refuses what is needed; really so, in a child."""
    output = tmp_path / "output"
    pid = os.fork()
    if pid == 0:
        try:
            refuse({call: (number, None)})
            file = os.open(output, os.O_WRONLY | os.O_CREAT)
            os.dup2(file, 1)
            os.dup2(file, 2)
            os.execve(FDPROOF[0], [*FDPROOF, "check", *arguments], environment(tmp_path))
        finally:
            os._exit(99)
    _, status = os.waitpid(pid, 0)

    text = output.read_text()
    assert os.waitstatus_to_exitcode(status) == 3, text
    assert text.startswith("fdproof: ")
    assert " is not available here: " in text
    assert text.count("\n") == 1


def test_json_beside_the_text(tmp_path: Path) -> None:
    result = check(tmp_path, "--json", "report.json", "--no-stacks", LEAK)

    assert result.status == 1
    assert result.out.startswith("LEAK")
    assert json.loads((tmp_path / "report.json").read_text())["findings"]


def test_json_instead_of_the_text(tmp_path: Path) -> None:
    result = check(tmp_path, "--json", "-", CLEAN)

    assert result.status == 0
    assert json.loads(result.out)["findings"] == []


KEY = {"task": str, "call": str, "occurrence": int}
FAULT = {**KEY, "errno": str}
FRAME = {"file": str, "line": int, "function": str}
SCHEMA: dict[str, Any] = {
    "version": int,
    "operation": str,
    "kind": str,
    "kernel": str,
    "python": str,
    "seconds": float,
    "interrupted": bool,
    "calls": int,
    "points": [{**KEY, "on": str, "errnos": [str]}],
    "faults": {"planned": int, "run": int},
    "findings": [
        {
            "verdict": str,
            "detail": str,
            "fault": (FAULT, None),
            "stack": [FRAME],
            "waiting": [FRAME],
            "descriptors": [
                {
                    "number": int,
                    "what": str,
                    "target": str,
                    "close_on_exec": bool,
                    "made_by": (KEY, None),
                    "stack": [FRAME],
                }
            ],
        }
    ],
    "not_reached": [FAULT],
    "kept": [FAULT],
    "unsteady": [FAULT],
}


def fits(value: Any, schema: Any) -> None:
    """Compare a document with its schema: the same fields, no more and no fewer."""
    if isinstance(schema, dict):
        assert list(value) == list(schema)
        for name, one in schema.items():
            fits(value[name], one)
    elif isinstance(schema, list):
        for one in value:
            fits(one, schema[0])
    elif isinstance(schema, tuple):
        if value is not None:
            fits(value, schema[0])
    else:
        assert type(value) is schema, (value, schema)


@pytest.mark.parametrize("name", ["leaks_a_pipe", "survives_exec", "keeps_a_fallback", "nothing"])
def test_json_has_these_fields(name: str) -> None:
    report = swept(name, stacks=name == "leaks_a_pipe")
    document = json.loads(as_json(report))

    fits(document, SCHEMA)
    assert document == as_plain(report)
    assert document["version"] == VERSION == 1
    assert document["faults"] == {"planned": report.planned, "run": report.faults}
    assert [one["verdict"] for one in document["findings"]] == [
        one.verdict.value for one in report.findings
    ]
    assert all(one["verdict"] in [each.value for each in Verdict] for one in document["findings"])
    assert [one["errnos"] for one in document["points"]] == [
        list(one.errnos) for one in report.points
    ]
    assert len(document["kept"]) == len(report.kept)
    for finding, plain in zip(report.findings, document["findings"], strict=True):
        assert [one["number"] for one in plain["descriptors"]] == [
            one.entry.number for one in finding.left
        ]
        assert (plain["fault"] is None) == (finding.fault is None)


def test_text_says_what_was_kept_and_what_was_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPERATION_DIRECTORY", str(tmp_path))

    kept = as_text(swept("keeps_a_fallback")).plain
    unreached = as_text(swept("vanishing_point", "unfit.py", jobs=1)).plain

    assert "a cache, not a leak (eventfd2 #1)" in kept
    assert "say nothing (eventfd2 #1)" in unreached
    assert unreached.startswith("nothing found: ")


def test_all_errnos(tmp_path: Path) -> None:
    first, every = (
        json.loads(check(tmp_path, "--json", "-", "--no-stacks", "--errnos", which, LEAK).out)
        for which in ("first", "all")
    )

    assert first["points"] == every["points"]
    assert first["faults"]["run"] == len(first["points"])
    assert every["faults"]["run"] == sum(len(point["errnos"]) for point in every["points"])
    assert [one["fault"]["errno"] for one in every["findings"]] == every["points"][1]["errnos"]


def test_jobs(tmp_path: Path) -> None:
    one, two = (
        json.loads(
            check(
                tmp_path, "--json", "-", "--no-stacks", "--jobs", jobs, f"{OPERATIONS}:many_points"
            ).out
        )
        for jobs in "12"
    )

    def told(document: dict[str, Any]) -> list[Any]:
        return [
            (one["verdict"], one["fault"], [left["what"] for left in one["descriptors"]])
            for one in document["findings"]
        ]

    assert told(one) == told(two) != []
    assert one["points"] == two["points"]
    assert one["faults"] == two["faults"]


def test_timeout(tmp_path: Path) -> None:
    result = check(tmp_path, "--timeout", "0.5", f"{OPERATIONS}:hangs")

    assert result.status == 1
    assert result.out.startswith("HANG  no end within ")


def test_help_and_version(tmp_path: Path) -> None:
    for arguments, said in (
        (["--help"], "Commands:"),
        (["check", "-h"], "Exit status: 0 clean, 1 findings, 2 "),
    ):
        shown = subprocess.run(
            [*FDPROOF, *arguments],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=True,
        )
        assert said in shown.stdout
    assert sys.executable == FDPROOF[0]
