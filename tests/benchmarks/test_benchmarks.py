"""The benchmarks run, and their table and samples have the shape that the docs quote; no time is judged."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import publication
from benchmarks.compiled import Compiled
from benchmarks.measure import Budget, Contest, Contestant, measure, summarise
from fdproof.notifier import Filter, Target, fork, spawn
from fdproof.notifier._libseccomp import name_of
from fdproof.notifier._loop import Loop, Stop

ROOT = Path(__file__).parents[2]
CONTESTS = [
    "publication",
    "spawn",
    "spawn-memory",
    "spawn-descriptors",
    "pass-1",
    "pass-200",
    "pass-busy",
    "notification",
    "callable",
    "command",
    "model-open",
    "model-replace",
    "model-lookup",
    "model-fork",
]
RATIO = re.compile(
    r" \d+(\.\d+)? (us|ms) +\d+(\.\d+)?( +\d+(\.\d+)?-\d+(\.\d+)?)?(  [<>]= .*: (met|missed))?$"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    # The package may be found through the path alone; the programs that the benchmarks start need it, too.
    environment["PYTHONPATH"] = os.pathsep.join(
        ["src", *filter(None, [environment.get("PYTHONPATH")])]
    )
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")
def test_a_quick_run_prints_every_contest_with_ratios_and_budgets(tmp_path: Path) -> None:
    samples = tmp_path / "samples.json"

    result = run("--quick", "--json", str(samples))

    assert result.returncode == 0, result.stderr
    header, empty, columns, *lines = result.stdout.splitlines()
    assert re.fullmatch(
        r"Linux \S+, .+, \d+ cores?, Python \S+; medians of 1 interleaved round", header
    )
    assert empty == ""
    assert columns.split() == ["median", "ratio", "lowest-highest", "budget"]
    results = [line for line in lines if line.startswith("  ") and not line.startswith("  (")]
    titles = [line for line in lines if not line.startswith("  ")]
    assert len(titles) == len(CONTESTS)
    assert [line for line in results if not RATIO.search(line)] == []
    assert [line for line in results if line.endswith((": met", ": missed"))] != []
    written = json.loads(samples.read_text(encoding="utf-8"))
    assert list(written["contests"]) == CONTESTS
    assert sum(len(lines) for lines in written["contests"].values()) == len(results)
    for contest in written["contests"].values():
        assert contest[0]["ratio"] == 1
        assert all(len(line["samples"]) == 1 and line["seconds"] > 0 for line in contest)


def test_only_limits_the_run_to_the_contests_named() -> None:
    result = run("--quick", "--only", "publication")

    assert result.returncode == 0, result.stderr
    titles = [line for line in result.stdout.splitlines()[3:] if not line.startswith("  ")]
    assert titles == ["reserve, build, publish, close (/dev/null)"]


CALLS = ["openat", "openat2", "fcntl", "getpid", "close", "dup3"]


def last_calls(target: Target, count: int) -> list[str | None]:
    """Let a target run to its end; return the names of the last calls that it made."""
    with target:
        loop = Loop(target.listener, target.process, None, ())
        loop.counting = True
        loop.add_task(target.pid, 0)
        assert loop.run(time.monotonic() + 60) is Stop.ENDED
        return [name_of(call) for _, call, _, _ in loop.events()[-count:]]


@pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")
def test_the_c_program_makes_the_same_calls_in_the_same_order(tmp_path: Path) -> None:
    in_c = last_calls(spawn(Filter(CALLS), [Compiled(tmp_path).program("publish"), "1"]), 11)

    for step in (publication._prepare, publication._reserve):
        # The second time: the first may import and look things up.
        assert last_calls(fork(Filter(CALLS), lambda: (step(), step())), 11) == in_c  # noqa: B023
    assert in_c[0] == "openat"
    assert in_c[-3:] == ["dup3", "close", "close"]


def test_an_unknown_contest_is_a_usage_error() -> None:
    result = run("--only", "nonsense")

    assert result.returncode == 2
    assert "invalid choice" in result.stderr


def test_a_budget_is_met_or_missed_by_its_ratio() -> None:
    contest = Contest(
        "one",
        "one",
        [
            Contestant("limit", float),
            Contestant("tight", float, Budget("limit", 1.2)),
            Contestant("loose", float, Budget("limit", 2)),
            Contestant("slow", float, Budget("tight", at_least=50)),
        ],
    )

    lines = summarise(
        contest,
        {"limit": [1, 2, 3], "tight": [2, 3, 4], "loose": [2, 4, 9], "slow": [90, 150, 210]},
    )

    assert [line.met for line in lines] == [None, False, True, True]
    assert [line.ratio for line in lines] == [1, 1.5, 2, 50]
    assert (lines[1].lowest, lines[1].highest) == (4 / 3, 2)


def test_contestants_take_turns_and_every_other_round_runs_backwards() -> None:
    order: list[str] = []

    def contestant(name: str) -> Contestant:
        def once() -> float:
            order.append(name)
            return 1.0

        return Contestant(name, once)

    samples = measure(
        [Contest("one", "one", [contestant("a"), contestant("b")])], 2, lambda _: None
    )

    assert order == ["a", "b", "b", "a"]
    assert samples == {"one": {"a": [1.0, 1.0], "b": [1.0, 1.0]}}
