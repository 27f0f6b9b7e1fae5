"""Judging is a pure function of two records: what was left, and what the clean run left."""

from dataclasses import replace

import pytest

from fdproof.check.records import End, Exec, Frame, Outcome, Round, Verdict
from fdproof.check.verdicts import grows, judge
from fdproof.observe.snapshot import Entry
from tests.check.swept import fault, what

FILE = Entry(3, "/etc/passwd", 0, True, 0o100644)
PIPE = Entry(4, "pipe:[1]", 0, True)
INPUT = Entry(0, "/dev/null", 2, False, 0o020666)
ERRORS = Entry(2, "/memfd:x", 2, False)
EMPTY = Round((), ())
CLEAN = Outcome(None, 0, End.RETURNED, 0, (EMPTY,))
FAULTY = Outcome(fault("openat", "EMFILE"), 1, End.RETURNED, 0, (EMPTY,))


def left(*entries: Entry) -> Round:
    return Round(entries, entries)


def lacking(how: str, *entries: Entry) -> Round:
    return Round((), (), gone=entries) if how == "gone" else Round((), (), replaced=entries)


def test_nothing_left_is_no_finding() -> None:
    assert judge(FAULTY, CLEAN) == ()
    assert judge(CLEAN, CLEAN) == ()


def test_left_open_is_a_leak() -> None:
    (found,) = judge(replace(FAULTY, rounds=(left(FILE, PIPE),)), CLEAN)

    assert found.verdict is Verdict.LEAK
    assert found.fault == FAULTY.fault
    assert [one.entry for one in found.left] == [FILE, PIPE]
    assert found.detail == "still open after it returned"


def test_what_the_exception_was_is_said() -> None:
    one = replace(left(FILE), raised="OSError: no")

    assert (
        judge(replace(FAULTY, rounds=(one,)), CLEAN)[0].detail
        == "still open after it raised OSError: no"
    )


def test_garbage_is_not_a_leak() -> None:
    assert judge(replace(FAULTY, rounds=(Round((FILE,), ()),)), CLEAN) == ()


def test_what_the_clean_run_leaves_is_not_a_leak() -> None:
    clean = replace(CLEAN, rounds=(left(FILE),))

    assert judge(replace(FAULTY, rounds=(left(replace(FILE, number=9)),)), clean) == ()
    assert judge(clean, clean) == ()


def test_more_of_a_kind_than_the_clean_run_leaves_is_a_leak() -> None:
    clean = replace(CLEAN, rounds=(left(FILE),))
    second = replace(FILE, number=5)

    (found,) = judge(replace(FAULTY, rounds=(left(FILE, second),)), clean)

    assert [one.entry for one in found.left] == [second]


def test_of_several_rounds_the_first_decides() -> None:
    assert judge(replace(FAULTY, rounds=(EMPTY, left(FILE))), CLEAN) == ()


@pytest.mark.parametrize(
    ("field", "detail"), [("gone", "closed"), ("replaced", "replaced by another file")]
)
def test_lost(field: str, detail: str) -> None:
    hurt = replace(FAULTY, rounds=(lacking(field, INPUT, ERRORS),))

    (found,) = judge(hurt, CLEAN)

    assert (found.verdict, found.detail) == (Verdict.LOST, detail)
    assert [one.entry for one in found.left] == [INPUT, ERRORS]


@pytest.mark.parametrize("field", ["gone", "replaced"])
@pytest.mark.parametrize("usual", ["gone", "replaced"])
def test_what_the_clean_run_gives_up_is_not_lost(field: str, usual: str) -> None:
    clean = replace(CLEAN, rounds=(lacking(usual, INPUT),))
    hurt = replace(FAULTY, rounds=(lacking(field, INPUT),))

    assert judge(hurt, clean) == ()
    assert judge(clean, clean) == ()


def test_killed_is_a_crash() -> None:
    killed = replace(FAULTY, end=End.KILLED, status=-6, rounds=(), stderr="one\n last words \n\n")

    (found,) = judge(killed, CLEAN)

    assert (found.verdict, found.left) == (Verdict.CRASH, ())
    assert found.detail == "killed by SIGABRT: last words"


def test_a_signal_without_a_name() -> None:
    assert (
        "signal 40"
        in judge(replace(FAULTY, end=End.KILLED, status=-40, rounds=()), CLEAN)[0].detail
    )


def test_leaving_in_the_middle_is_a_crash() -> None:
    (found,) = judge(replace(FAULTY, end=End.EXITED, status=3, rounds=()), CLEAN)

    assert found.verdict is Verdict.CRASH
    assert found.detail == "the process ended in the middle, with status 3"


def test_a_program_may_exit_as_it_likes() -> None:
    """A command that reports its error with a status is in order."""
    for status in (0, 1, 126):
        assert judge(replace(FAULTY, end=End.EXITED, status=status), CLEAN) == ()


def test_a_program_that_leaves_something_open() -> None:
    (found,) = judge(replace(FAULTY, end=End.EXITED, status=0, rounds=(left(FILE),)), CLEAN)

    assert found.verdict is Verdict.LEAK
    assert found.detail == "still open when the program exited with status 0"


def test_no_end_is_a_hang() -> None:
    hung = replace(
        FAULTY, end=End.HUNG, status=-9, rounds=(), limit=10.0, waiting=(Frame("x.py", 3, "f"),)
    )

    (found,) = judge(hung, CLEAN)

    assert (found.verdict, found.detail) == (Verdict.HANG, "no end within 10 s")
    assert found.waiting == hung.waiting


def test_open_over_an_exec() -> None:
    execs = (
        Exec("0.1", "/bin/cat", (FILE, PIPE)),
        Exec("0.2", "/bin/cat", (replace(FILE, number=8),)),
    )

    found = judge(replace(FAULTY, execs=execs), CLEAN)

    assert [one.verdict for one in found] == [Verdict.SURVIVES_EXEC] * 2
    assert [what(one) for one in found] == [[FILE.what], [PIPE.what]]
    assert {one.detail for one in found} == {"into /bin/cat"}


def test_open_over_an_exec_without_a_fault_is_said_once() -> None:
    clean = replace(CLEAN, execs=(Exec("0.1", "/bin/cat", (FILE,)),))

    (found,) = judge(clean, clean)
    assert found.fault is None
    assert judge(replace(FAULTY, execs=clean.execs), clean) == ()
    other = (Exec("0.1", "/bin/ls", (FILE,)),)
    assert len(judge(replace(FAULTY, execs=other), clean)) == 1


def test_several_verdicts_at_once() -> None:
    worst = replace(
        FAULTY,
        rounds=(Round((FILE,), (FILE,), (INPUT,), (ERRORS,)),),
        execs=(Exec("0", "/bin/cat", (PIPE,)),),
    )

    assert [one.verdict.value for one in judge(worst, CLEAN)] == [
        "leak",
        "lost",
        "lost",
        "survives exec",
    ]


TWICE = replace(FAULTY, reached=2)


@pytest.mark.parametrize(
    ("rounds", "growing"),
    [
        ((left(FILE), left(FILE)), False),
        ((left(FILE), left(FILE, replace(FILE, number=5))), True),
        ((left(FILE), left(FILE, PIPE)), False),
        ((left(FILE, PIPE), left(FILE, PIPE, replace(PIPE, number=6))), True),
        ((left(FILE), EMPTY), False),
    ],
)
def test_a_leak_grows_and_a_cache_does_not(rounds: tuple[Round, ...], growing: bool) -> None:
    assert grows(replace(TWICE, rounds=rounds), CLEAN) is growing


def test_growth_is_more_than_the_clean_run_leaves() -> None:
    clean = replace(CLEAN, rounds=(left(FILE),))
    second = (FILE, replace(FILE, number=5))

    assert not grows(replace(TWICE, rounds=(left(*second), left(*second))), clean)


def test_without_a_second_fault_the_first_stands() -> None:
    assert grows(replace(TWICE, reached=1, rounds=(left(FILE), left(FILE))), CLEAN)
    assert grows(replace(TWICE, rounds=(left(FILE),)), CLEAN)
