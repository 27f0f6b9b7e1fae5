"""The parents that start programs have the shape that the table says, and end with their contest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import parent, spawning
from benchmarks.compiled import Compiled

SHAPE = ["8", "70", "/bin/true"]
C_WAYS = ["vfork", "clone"]


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    root = Path(__file__).parents[2]
    places = [str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    return {
        "c": [Compiled(tmp_path).program("parent"), *SHAPE],
        "python": [sys.executable, "-m", parent.__name__, *SHAPE],
    }


def start(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def resident_kibibytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.parametrize(("language", "ways"), [("c", C_WAYS), ("python", list(parent.WAYS))])
def test_a_parent_has_its_shape_and_knows_its_ways(
    commands: dict[str, list[str]], language: str, ways: list[str]
) -> None:
    with start(commands[language]) as process:
        assert process.stdin
        assert process.stdout
        for way in ways:
            print(way, 2, file=process.stdin, flush=True)
            assert float(process.stdout.readline()) > 0
        numbers = [int(number) for number in os.listdir(f"/proc/{process.pid}/fd")]
        files = [os.readlink(f"/proc/{process.pid}/fd/{number}") for number in numbers]

        assert files.count("/dev/null") == 70
        assert resident_kibibytes(process.pid) >= 8 * 1024
        _, errors = process.communicate()

    assert (process.returncode, errors) == (0, "")


def test_a_program_that_fails_is_not_measured_in_c(commands: dict[str, list[str]]) -> None:
    for way in C_WAYS:
        with start([*commands["c"][:-1], "/bin/false"]) as process:
            assert process.communicate(f"{way} 1\n")[0] == ""
        assert process.returncode == 1


def test_a_parent_that_ended_is_an_error() -> None:
    one = spawning._Parent(lambda: ["/bin/false"])
    try:
        with pytest.raises((RuntimeError, BrokenPipeError)):
            one.seconds("vfork", 1)
    finally:
        one.close()


def test_the_parents_end_with_their_contest(
    commands: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[str]] = []
    usual = subprocess.Popen

    def remember(*arguments: object, **options: object) -> object:
        started.append(usual(*arguments, **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)
    contest = spawning.from_many(Compiled(tmp_path), quick=True)
    for one in contest.contestants:
        assert one.run() > 0
    assert [process.poll() for process in started[-2:]] == [None, None]

    contest.close()

    assert [process.returncode for process in started[-2:]] == [0, 0]
