"""explore fails every step once, and says what was left behind or went wrong."""

import contextlib
import os
from collections.abc import Callable

import pytest

from fdproof.model import (
    Kernel,
    Misuse,
    Problem,
    Run,
    Task,
    explore,
)
from tests.model.explored import careful, careless, two_threads

# -- faults


def test_a_descriptor_that_an_error_leaves_open_is_found() -> None:
    report = explore(careless)

    assert not report
    assert report.complete
    assert set(report.problems) == {Problem.DESCRIPTOR_LEFT}
    shortest = report.shortest
    assert shortest is not None
    assert [step.call for step in shortest.steps] == [
        "memfd_create('first')",
        "memfd_create('second')",
    ]
    assert (shortest.steps[0].outcome, shortest.steps[0].fault) == ("0", "")
    assert shortest.steps[1].outcome in ("EMFILE", "ENFILE")
    assert [str(finding) for finding in shortest.findings] == ["descriptor left open: 0"]


def test_a_careful_program_passes_on_every_path() -> None:
    report = explore(careful)

    assert report
    assert report.shortest is None
    # One path without a fault, and one for each step that can fail.
    assert report.runs == report.faulted + 1


def test_every_fallible_step_of_the_path_without_faults_fails_once() -> None:
    seen: list[str] = []
    kernel = Kernel()

    def notices(step: str, number: int) -> bool:
        seen.append(step)
        return False

    kernel.fault = notices
    careful(kernel.spawn())
    made_to_fail: list[str] = []

    def notes(run: Run) -> None:
        if run.errors != (None,):
            made_to_fail.append("one")

    explore(careful, invariant=notes)

    # What a fault cuts off fails on no path, and what it leads to is reached by a second fault only.
    assert len(seen) >= 4
    assert len(made_to_fail) == len(seen)


def test_a_second_fault_reaches_the_clean_up_after_the_first() -> None:
    def falls_back(task: Task) -> None:
        try:
            task.close(task.memfd_create("wanted"))
        except OSError:
            first = task.memfd_create("one instead")
            task.close(task.memfd_create("and another"))
            task.close(first)

    assert explore(falls_back)
    shortest = explore(falls_back, faults=2).shortest
    assert shortest is not None
    assert shortest.faults == 2
    assert [step.call for step in shortest.steps if step.fault] == [
        "memfd_create('wanted')",
        "memfd_create('and another')",
    ]


def test_nothing_fails_in_the_setup() -> None:
    def setup() -> Task:
        task = Kernel().spawn()
        task.memfd_create("before")
        return task

    report = explore(lambda task: task.getpid(), setup=setup, faults=3)

    assert report.runs == 1
    assert not report.failures


# -- what is left


def test_what_a_program_returns_is_handed_over() -> None:
    def both(task: Task) -> tuple[str, dict[str, list[int]]]:
        return "pipe", {"ends": list(task.pipe2())}

    def one(task: Task) -> int:
        reading, _ = task.pipe2()
        return reading

    assert explore(both)
    shortest = explore(one).shortest
    assert shortest is not None
    assert shortest.faults == 0
    assert [finding.detail for finding in shortest.findings] == ["1"]


def test_what_was_open_before_may_stay_and_what_took_its_place_may_not() -> None:
    def setup() -> Task:
        task = Kernel().spawn()
        task.memfd_create("before")
        return task

    def replaces(task: Task) -> None:
        task.close(0)
        task.memfd_create("another")

    assert explore(careful, setup=setup)
    report = explore(replaces, setup=setup, faults=0)
    assert report.problems == {Problem.DESCRIPTOR_LEFT: 1}


def test_threads_that_share_a_table_are_told_once_of_a_descriptor() -> None:
    report = explore(
        lambda task: None,
        lambda task: task.memfd_create("left") and None,
        setup=two_threads,
        faults=0,
    )

    assert report.shortest is not None
    assert [str(one) for one in report.shortest.findings] == ["descriptor left open: 1"]


def test_a_number_that_one_process_returns_is_not_handed_over_by_another() -> None:
    def two_processes() -> list[Task]:
        kernel = Kernel()
        return [kernel.spawn(), kernel.spawn()]

    def keeps(task: Task) -> int:
        return task.memfd_create("kept")

    def leaves(task: Task) -> None:
        task.memfd_create("left")

    report = explore(keeps, leaves, setup=two_processes, faults=0)

    assert report.shortest is not None
    assert [str(one) for one in report.shortest.findings] == ["descriptor left open: 0"]
    assert explore(keeps, keeps, setup=two_processes)


def test_a_child_process_is_run_by_the_program_that_made_it() -> None:
    def forks(task: Task) -> None:
        number = task.memfd_create("inherited")
        try:
            child = task.fork()
            child.close(number)
            child.exit(0)
        finally:
            task.close(number)

    report = explore(forks)

    assert report
    assert report.runs > 2


# -- the kernel's inside


def by_hand(task: Task) -> int:
    kernel = task.inside
    number = kernel.get_unused_fd_flags(os.O_CLOEXEC)
    try:
        file = kernel.anon_inode_getfile("[x]", os.O_RDWR)
    except OSError:
        kernel.put_unused_fd(number)
        raise
    kernel.fd_install(number, file)
    return number


def prepared(task: Task) -> int:
    kernel = task.inside
    with (
        kernel.system_call(),
        kernel.fd_prepare(os.O_CLOEXEC, lambda: kernel.anon_inode_getfile("[x]")) as fd,
    ):
        kernel.copy_to_user(fd.fd)
        return kernel.fd_publish(fd)


@pytest.mark.parametrize("program", [by_hand, prepared])
def test_code_on_the_inside_functions_is_explored_like_any_other(
    program: Callable[[Task], int],
) -> None:
    report = explore(program)

    assert report
    assert report.runs > 2


@pytest.mark.parametrize(
    ("forgotten", "problems"),
    [
        ("put_unused_fd", {Problem.NUMBER_LEFT}),
        ("fput", {Problem.FILE_LEFT}),
        ("fd_install", {Problem.NUMBER_LEFT, Problem.FILE_LEFT}),
    ],
)
def test_what_the_inside_leaves_behind_is_told(forgotten: str, problems: set[Problem]) -> None:
    def program(task: Task) -> None:
        kernel = task.inside
        number = kernel.get_unused_fd_flags(0)
        file = kernel.anon_inode_getfile("[x]")
        if forgotten == "fd_install":
            return
        if forgotten != "fput":
            kernel.fput(file)
        if forgotten != "put_unused_fd":
            kernel.put_unused_fd(number)

    report = explore(program, faults=0)

    assert report.shortest is not None
    assert report.shortest.problems == problems


def test_misuse_of_the_inside_is_a_finding() -> None:
    def program(task: Task) -> int:
        number = by_hand(task)
        task.inside.put_unused_fd(number)
        return number

    report = explore(program, faults=0)

    # What was published is not handed over by a program that raises.
    assert report.problems == {Problem.MISUSE: 1, Problem.DESCRIPTOR_LEFT: 1}
    assert "put_unused_fd: 0 was published" in str(report)


def test_misuse_that_the_program_hides_is_a_finding_all_the_same() -> None:
    def program(task: Task) -> int:
        number = by_hand(task)
        with contextlib.suppress(Misuse):
            task.inside.put_unused_fd(number)
        return number

    assert explore(program, faults=0).problems == {Problem.MISUSE: 1}


def test_what_the_bounds_of_a_system_call_find_is_a_finding() -> None:
    def program(task: Task) -> None:
        with task.inside.system_call():
            task.inside.put_unused_fd(task.inside.get_unused_fd_flags(0))
            task.inside.fput(task.inside.anon_inode_getfile("[x]"))
            task.inside.get_unused_fd_flags(0)

    shortest = explore(program, faults=0).shortest
    assert shortest is not None
    assert [str(one) for one in shortest.findings] == [
        "misuse: the call returned and left: reserved 0",
        "number left reserved: 0",
    ]


# -- other things that are wrong


@pytest.mark.parametrize(
    ("program", "problem", "detail"),
    [
        (
            lambda task: 1 // 0,
            Problem.CRASH,
            "ZeroDivisionError: integer division or modulo by zero",
        ),
        (lambda task: task.read(task.pipe2()[0], 1), Problem.DEADLOCK, "waiting for ever: 0"),
    ],
    ids=["an exception", "a wait that nobody ends"],
)
def test_a_program_that_does_not_end_as_it_should_is_told(
    program: Callable[[Task], object], problem: Problem, detail: str
) -> None:
    report = explore(program, faults=0)

    assert report.shortest is not None
    assert [(one.problem, one.detail) for one in report.shortest.findings] == [(problem, detail)]


def test_a_program_without_an_end_is_stopped() -> None:
    def endless(task: Task) -> None:
        while True:
            task.getpid()

    for programs in ([endless], [endless, endless]):
        report = explore(*programs, max_steps=20, max_runs=3, faults=0)
        assert report.shortest is not None
        assert report.problems == {Problem.ENDLESS: report.runs}
        assert str(report.shortest.findings[0]) == "no end: still running after 20 calls"


def test_an_assertion_in_the_program_or_the_invariant_is_a_finding() -> None:
    def asserts(task: Task) -> None:
        try:
            careful(task)
        except OSError:
            raise AssertionError("it should not fail") from None

    def checks(run: Run) -> None:
        assert run.errors == (None,), f"raised {type(run.errors[0]).__name__}"
        assert run.kernel is run.tasks[0].kernel
        assert run.results == (None,)

    for report in (explore(asserts), explore(careful, invariant=checks)):
        assert report.failing == report.faulted == report.problems[Problem.INVARIANT]
    assert str(report.failures[0].findings[0]) == "invariant broken: raised OSError"
