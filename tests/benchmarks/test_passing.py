"""Every contestant of the passing benchmark passes the same descriptors and leaves none behind."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import passing
from benchmarks.__main__ import _table
from benchmarks.compiled import Compiled
from benchmarks.measure import Contest, measure, summarise
from fdproof.observe.snapshot import numbers

WHERE = {"kernel": "0", "processor": "one", "cores": "1", "python": "0"}
CONTESTANTS = [
    "C: sendmsg, recvmsg, close",
    "fdproof.passing.send, receive, close",
    "socket.send_fds, recv_fds, os.close",
    "multiprocessing.reduction, os.close",
]


@pytest.fixture(params=[passing.of_one, passing.of_many, passing.beside_a_thread])
def contest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Contest]:
    made = request.param(Compiled(tmp_path), quick=True)
    yield made
    made.close()


def test_no_contestant_leaves_a_descriptor(contest: Contest) -> None:
    before = numbers(os.getpid())

    assert [one.name for one in contest.contestants] == CONTESTANTS[-len(contest.contestants) :]
    for one in contest.contestants:
        assert one.run() > 0
    assert numbers(os.getpid()) == before


@pytest.mark.parametrize(("count", "make"), [(1, passing.of_one), (200, passing.of_many)])
def test_the_table_says_how_many_descriptors_that_is_a_second(
    count: int, make: Callable[..., Contest], tmp_path: Path
) -> None:
    contest = make(Compiled(tmp_path), quick=True)
    results = summarise(contest, measure([contest], 1, lambda _: None)[contest.name])

    contest.close()
    lines = _table([contest], {contest.name: results}, WHERE, 1).splitlines()

    told = [re.fullmatch(r"  \((.*): ([\d,]+) descriptors a second\)", line) for line in lines[-4:]]
    assert [found and found[1] for found in told] == CONTESTANTS
    assert [found and found[2] for found in told] == [
        f"{count / result.seconds:,.0f}" for result in results
    ]


@pytest.mark.parametrize(("count", "status"), [("1", 0), ("253", 0), ("254", 2)])
def test_the_c_program_passes_up_to_253(count: str, status: int, tmp_path: Path) -> None:
    program = Compiled(tmp_path).program("passing")

    result = subprocess.run([program, "2", count], capture_output=True, text=True, check=False)

    assert result.returncode == status
    assert not status or result.stdout == ""
