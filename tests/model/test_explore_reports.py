"""What an exploration tells, where it stops, and what it refuses."""

import itertools
import os
import threading

import pytest

from fdproof.model import (
    Failure,
    Finding,
    Problem,
    Report,
    Step,
    Task,
    explore,
)
from tests.model.explored import careful, two_threads

# -- reports


def failing_run(problem: Problem, faults: int, threads: str) -> Failure:
    steps = tuple(Step(int(thread), "getpid()", "1") for thread in threads)
    return Failure((Finding(problem, "7"),), steps, faults)


def test_the_shortest_has_the_fewest_faults_then_switches_then_calls() -> None:
    runs = [
        failing_run(Problem.MISUSE, 0, "0011"),
        failing_run(Problem.MISUSE, 0, "00111"),
        failing_run(Problem.MISUSE, 0, "010"),
        failing_run(Problem.MISUSE, 1, "0"),
    ]

    for order in itertools.permutations(runs):
        report = Report(2)
        for run in order:
            report.add(run)
        assert report.failures == [runs[0]]
        assert report.shortest is runs[0]
        assert report.failing == report.problems[Problem.MISUSE] == 4


def test_the_shortest_of_each_kind_of_failure_is_kept() -> None:
    runs = [failing_run(problem, 0, "0" * count) for count, problem in enumerate(Problem, 1)]
    report = Report(1)
    for run in reversed(runs):
        report.add(run)

    assert report.failures == runs
    assert report.shortest is runs[0]


def test_a_report_reads_the_same_every_time() -> None:
    report = Report(1, runs=9, faulted=8, complete=True)
    for problem in reversed(Problem):
        report.add(failing_run(problem, 0, "0"))
    report.add(failing_run(Problem.CRASH, 0, "0"))

    lines = str(report).splitlines()
    assert lines[0] == "9 paths, 8 with a fault"
    assert lines[1].startswith(
        f"{len(Problem) + 1} paths fail: 2 x crash, 1 x descriptor left open"
    )


def test_flags_are_spelt_by_their_names() -> None:
    def program(task: Task) -> None:
        number = task.open("/file", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        task.fcntl(number, 0, 5)
        task.dup3(number, 9, flags=os.O_CLOEXEC)
        task.close_range(5, 9, 4 | 0)
        raise AssertionError

    shortest = explore(program, faults=0).shortest
    assert shortest is not None
    assert [step.call for step in shortest.steps] == [
        "open('/file', O_RDWR|O_CREAT|O_CLOEXEC)",
        "fcntl(0, F_DUPFD, 5)",
        "dup3(0, 9, flags=O_CLOEXEC)",
        "close_range(5, 9, CLOSE_RANGE_CLOEXEC)",
    ]


# -- bounds, and what is asked wrong


def test_an_exploration_that_was_ended_says_so_and_is_not_true() -> None:
    report = explore(careful, max_runs=2)

    assert not report
    assert (report.runs, report.complete) == (2, False)
    assert str(report).splitlines()[1:] == [
        "not complete: there are more paths (max_runs)",
        "no path fails so far",
    ]
    exactly = explore(careful, max_runs=explore(careful).runs)
    assert exactly.complete


def test_a_program_that_does_something_else_the_second_time_is_refused() -> None:
    times: list[int] = []

    def changes(task: Task) -> None:
        times.append(1)
        if len(times) % 2:
            task.memfd_create("odd")

    def other(task: Task) -> None:
        task.getpid()

    with pytest.raises(RuntimeError, match="depend on nothing but the model"):
        explore(changes, other, reduce=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "programs: give at least one"),
        ({"faults": -1}, "faults=-1: must be at least 0"),
        ({"max_runs": 0}, "max_runs=0: must be at least 1"),
        ({"max_steps": 0}, "max_steps=0: must be at least 1"),
        ({"setup": two_threads}, "setup: it made 2 tasks for 1 programs; return one for each"),
    ],
)
def test_bad_input_is_refused(arguments: dict[str, object], message: str) -> None:
    programs = [careful] if arguments else []

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        explore(*programs, **arguments)  # type: ignore[arg-type]

    assert str(caught.value) == message


def test_an_interrupt_ends_the_exploration_and_its_threads() -> None:
    before = threading.active_count()

    def interrupted(task: Task) -> None:
        task.getpid()
        raise KeyboardInterrupt

    for programs in ([interrupted], [careful, interrupted], [interrupted, careful, careful]):
        with pytest.raises(KeyboardInterrupt):
            explore(*programs)
    assert threading.active_count() == before
