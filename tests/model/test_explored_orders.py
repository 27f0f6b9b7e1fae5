"""explore walks every order of the threads that matters, and no path twice."""

import os
import random
import threading
from collections.abc import Callable

import pytest

from fdproof.model import (
    Kernel,
    Problem,
    Report,
    Run,
    Task,
    explore,
)
from tests.model.explored import THREAD, quietly, three_files, two_threads


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
