"""explore walks every path, leaves none out that matters, and says what it found."""

import contextlib
import itertools
import os
import random
import threading
from collections.abc import Callable

import pytest

from fdproof.model import (
    Failure,
    Finding,
    Kernel,
    Misuse,
    Problem,
    Report,
    Run,
    Step,
    Task,
    explore,
)

THREAD = 0x100 | 0x400 | 0x800 | 0x10000
"""CLONE_VM, CLONE_FILES, CLONE_SIGHAND and CLONE_THREAD."""


def careless(task: Task) -> None:
    first = task.memfd_create("first")
    second = task.memfd_create("second")
    task.close(second)
    task.close(first)


def careful(task: Task) -> None:
    first = task.memfd_create("first")
    try:
        task.close(task.memfd_create("second"))
    finally:
        task.close(first)


def two_threads() -> list[Task]:
    """Two threads of a process with one file, at 0."""
    task = Kernel().spawn()
    task.memfd_create("shared")
    return [task, task.clone(THREAD)]


def three_files() -> list[Task]:
    """Two threads of a process with files at 0, 1 and 2."""
    first, second = two_threads()
    first.memfd_create("1")
    first.memfd_create("2")
    return [first, second]


def quietly(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except OSError:
        pass


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


# -- interleavings


def test_threads_that_do_not_touch_the_same_need_one_order() -> None:
    def setup() -> list[Task]:
        kernel = Kernel()
        tasks = [kernel.spawn() for _ in range(3)]
        for task in tasks:
            task.memfd_create("own")
        return tasks

    def writes(task: Task) -> None:
        task.write(0, b"one")
        task.write(0, b"two")

    reduced = explore(writes, writes, writes, setup=setup, faults=0)
    full = explore(writes, writes, writes, setup=setup, faults=0, reduce=False)

    assert (reduced.runs, full.runs, full.cut) == (1, 90, 0)


def test_calls_on_one_file_are_seen_in_every_order() -> None:
    def writes(text: bytes) -> Callable[[Task], None]:
        def program(task: Task) -> None:
            task.write(0, text)

        return program

    seen: set[bytes] = set()

    def notes(run: Run) -> None:
        run.tasks[0].lseek(0, 0)
        seen.add(run.tasks[0].read(0, 10))

    programs = [writes(b"1"), writes(b"2"), writes(b"3")]

    def setup() -> list[Task]:
        first, second = two_threads()
        return [first, second, first.clone(THREAD)]

    assert explore(*programs, setup=setup, invariant=notes, faults=0)
    assert seen == {b"123", b"132", b"213", b"231", b"312", b"321"}


def test_two_openings_of_one_name_are_no_two_files_to_write_to() -> None:
    def setup() -> list[Task]:
        task = Kernel().spawn()
        for _ in range(2):
            task.open("/file", os.O_CREAT | os.O_RDWR)
        return [task, task.clone(THREAD)]

    def writes(number: int) -> Callable[[Task], None]:
        def program(task: Task) -> None:
            task.write(number, str(number).encode())

        return program

    seen: set[bytes] = set()

    def notes(run: Run) -> None:
        run.tasks[0].lseek(0, 0)
        seen.add(run.tasks[0].read(0, 10))

    explore(writes(0), writes(1), setup=setup, invariant=notes, faults=0)

    assert seen == {b"0", b"1"}


@pytest.mark.parametrize("reduce", [True, False])
def test_no_path_is_walked_twice_also_where_threads_wait(reduce: bool) -> None:
    order: list[str] = []
    seen: list[str] = []

    def setup() -> list[Task]:
        order.clear()
        task = Kernel().spawn()
        task.pipe2()
        return [task, task.clone(THREAD), task.clone(THREAD)]

    def thread(name: str, call: str, *arguments: object) -> Callable[[Task], None]:
        def program(task: Task) -> None:
            for _ in range(2):
                getattr(task, call)(*arguments)
                order.append(name)

        return program

    explore(
        thread("w", "write", 1, b"x"),
        thread("p", "getpid"),
        # Last, so that it is tried, and waits, when all others have had their turn.
        thread("r", "read", 0, 1),
        setup=setup,
        invariant=lambda run: seen.append("".join(order)),
        faults=0,
        reduce=reduce,
    )

    # A read after its write, in 2 ways, and the third thread's two calls anywhere between.
    assert len(seen) == len(set(seen)) == 2 * 15


def test_a_number_that_another_thread_got_is_closed_behind_its_back() -> None:
    def closes_twice(task: Task) -> None:
        task.close(0)
        quietly(task.close, 0)

    def keeps(run: Run) -> None:
        number = run.results[1]
        assert number is None or number in run.tasks[1].table(), "closed behind its back"

    report = explore(
        closes_twice, lambda task: task.memfd_create("own"), setup=two_threads, invariant=keeps
    )

    assert report.problems == {Problem.INVARIANT: 1}
    assert str(report) == (
        f"{report.runs} paths of 2 threads, {report.faulted} with a fault\n"
        "1 path fails: 1 x invariant broken\n"
        "it is:\n"
        "  1  thread 0  close(0)\n"
        "  2  thread 1  memfd_create('own')  0\n"
        "  3  thread 0  close(0)\n"
        "invariant broken: closed behind its back"
    )


def test_a_call_that_would_wait_goes_on_when_another_thread_has_made_it_possible() -> None:
    def setup() -> list[Task]:
        task = Kernel().spawn()
        task.pipe2()
        return [task, task.clone(THREAD)]

    def reads(task: Task) -> None:
        assert task.read(0, 5) == b"hello"

    def writes(task: Task) -> None:
        task.write(1, b"hello")

    assert explore(reads, writes, setup=setup, faults=0)
    report = explore(reads, lambda task: task.getpid(), setup=setup, faults=0)
    assert set(report.problems) == {Problem.DEADLOCK}
    assert report.shortest is not None
    assert str(report.shortest) == ("  1  thread 1  getpid()  1\ndeadlock: waiting for ever: 0")


def test_two_threads_that_wait_for_each_other_are_found() -> None:
    def setup() -> list[Task]:
        task = Kernel().spawn()
        task.pipe2()
        task.pipe2()
        return [task, task.clone(THREAD)]

    def takes_then_gives(take: int, give: int) -> Callable[[Task], None]:
        def program(task: Task) -> None:
            task.read(take, 1)
            task.write(give, b"x")

        return program

    report = explore(takes_then_gives(0, 3), takes_then_gives(2, 1), setup=setup, faults=0)

    assert report.shortest is not None
    assert report.shortest.findings[0].detail == "waiting for ever: 0, 1"


def test_a_supervisor_and_its_target_take_turns() -> None:
    def setup() -> list[Task]:
        target = Kernel().spawn()
        # The supervisor shares the table, and was there before the filter.
        supervisor = target.clone(0x400)
        target.seccomp(["getpid"])
        return [target, supervisor]

    def asks(task: Task) -> None:
        assert task.begin("getpid").result() == 7

    def answers_once(task: Task) -> None:
        call = task.notif_recv(0)
        task.notif_send(0, call.id, value=7)

    def answers(task: Task) -> None:
        try:
            answers_once(task)
        except OSError:
            # The call is where it was: as if it had not been received.
            answers_once(task)

    assert explore(asks, answers, setup=setup)
    shortest = explore(asks, answers_once, setup=setup).shortest
    assert shortest is not None
    assert shortest.faults == 1
    assert [str(one) for one in shortest.findings] == ["deadlock: waiting for ever: 0"]


STEPS: list[tuple[str, tuple[object, ...]]] = [
    ("close", (0,)),
    ("close", (1,)),
    ("close", (2,)),
    ("dup", (0,)),
    ("dup", (1,)),
    ("dup2", (0, 1)),
    ("write", (0, b"ab")),
    ("write", (1, b"c")),
    ("read", (0, 1)),
    ("lseek", (0, 1)),
    ("fcntl", (0, 2, 1)),
    ("memfd_create", ("new",)),
    ("open", ("/file", os.O_CREAT | os.O_RDWR)),
    ("pipe2", ()),
    ("getpid", ()),
    ("fork", ()),
    ("unshare", (0x400,)),
]


def outcomes(
    programs: list[list[tuple[str, tuple[object, ...]]]], share: bool, faults: int, reduce: bool
) -> tuple[set[str], Report]:
    """How runs of a program can end: what each thread saw, and what is in the tables."""
    found: set[str] = set()

    def setup() -> list[Task]:
        kernel = Kernel()
        first = kernel.spawn()
        first.memfd_create("0")
        first.open("/file", os.O_CREAT | os.O_RDWR)
        others = [first.clone(THREAD) if share else first.fork() for _ in range(len(programs) - 1)]
        return [first, *others]

    def thread(steps: list[tuple[str, tuple[object, ...]]]) -> Callable[[Task], object]:
        def program(task: Task) -> object:
            seen: list[object] = []
            for name, arguments in steps:
                try:
                    result = getattr(task, name)(*arguments)
                except OSError as error:
                    seen.append(error.errno)
                else:
                    # Pids differ with the order of forks, and nothing else does.
                    seen.append(None if name == "fork" else result)
            return seen

        return program

    def notes(run: Run) -> None:
        tables = [task.table() for task in run.tasks]
        offsets = [(file.offset, file.references) for file in run.kernel.files()]
        found.add(repr((run.results, tables, offsets)))

    return found, explore(
        *map(thread, programs), setup=setup, invariant=notes, faults=faults, reduce=reduce
    )


@pytest.mark.parametrize("seed", range(60))
def test_leaving_out_orders_leaves_out_no_way_to_end(seed: int) -> None:
    chance = random.Random(seed)
    threads = chance.choice([2, 2, 3])
    longest = 3 if threads == 2 else 2
    programs = [
        [chance.choice(STEPS) for _ in range(chance.randint(1, longest))] for _ in range(threads)
    ]
    share, faults = chance.random() < 0.7, chance.choice([0, 0, 1])

    found, report = outcomes(programs, share, faults, reduce=True)
    all_there_are, full = outcomes(programs, share, faults, reduce=False)

    assert found == all_there_are, programs
    assert report.complete
    assert report.runs <= full.runs


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


def test_no_thread_is_left_after_paths_were_cut_and_threads_waited() -> None:
    before = threading.active_count()

    test_two_threads_that_wait_for_each_other_are_found()
    report = explore(
        lambda task: task.write(0, b"x") and None,
        lambda task: task.write(1, b"x") and None,
        setup=three_files,
    )

    assert report.cut > 0
    assert threading.active_count() == before
