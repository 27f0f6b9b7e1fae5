"""The examples on the model: the small machine keeps Linux's rules, and the ways of April 2023 go as told."""

import errno
import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EMULATOR = runpy.run_path(str(EXAMPLES / "emulator.py"))
WAYS = runpy.run_path(str(EXAMPLES / "april_2023.py"))


def names_after(program: str, **options: Any) -> dict[str, int | str]:
    """What the names of the first process hold when the program has ended."""
    machine = EMULATOR["Machine"](program, **options)
    machine.run()
    names: dict[str, int | str] = machine.processes[0].names
    return names


def test_a_pipeline_of_two_processes_prints_what_it_should() -> None:
    assert EMULATOR["Machine"](EMULATOR["PIPELINE"]).run() == "olleh"


def test_the_lowest_free_number_is_used() -> None:
    names = names_after(
        "open a -> a\nopen b -> b\nclose $a -> closed\nclose $a -> again\ndup $b -> c"
    )

    assert names == {"a": 3, "b": 4, "closed": 0, "again": -errno.EBADF, "c": 3}


def test_dup2_of_a_number_onto_itself_leaves_the_file_open() -> None:
    names = names_after(
        'open a -> a\nwrite $a "text"\nclose $a\nopen a -> a\ndup2 $a $a -> same\nread $a -> text\n'
        "dup2 9 9 -> bad\ndup2 $a 99 -> beyond"
    )

    assert names == {
        "a": 3,
        "same": 3,
        "text": "text",
        "bad": -errno.EBADF,
        "beyond": -errno.EBADF,
    }


def test_a_full_table_refuses_and_a_pipe_that_does_not_fit_leaves_nothing() -> None:
    names = names_after("open a -> a\npipe -> r w\nopen b -> b\nopen c -> c", limit=5)

    assert names == {
        "a": 3,
        "r": -errno.EMFILE,
        "w": -errno.EMFILE,
        "b": 4,
        "c": -errno.EMFILE,
    }


def test_a_copied_descriptor_shares_the_offset_and_another_opening_does_not() -> None:
    names = names_after(
        'open a -> a\ndup $a -> b\nopen a -> c\nwrite $a "xy"\nread $b -> b\nread $c -> c'
    )

    assert names == {"a": 3, "b": "", "c": "xy"}


def test_the_end_of_a_pipe_is_seen_when_the_last_copy_of_the_writing_end_is_closed() -> None:
    child_writes = 'fork -> child\njump_if $child parent\nwrite $w "x"\nexit\nparent:\nclose $w\n'

    names = names_after(f"pipe -> r w\n{child_writes}read $r -> x\nread $r -> end")
    assert (names["x"], names["end"]) == ("x", "")
    with pytest.raises(RuntimeError, match=r"wait for ever: \[1\]"):
        names_after("pipe -> r w\nread $r -> never")
    names = names_after('pipe -> r w\nclose $r\nwrite $w "x" -> nobody')
    assert names["nobody"] == -errno.EPIPE


RIGHT = {
    "by-hand",
    "reserve-early",
    "delayed-dup",
    "file-first",
    "create-number-first",
    "prepare",
}


@pytest.mark.parametrize("name", list(WAYS["WAYS"]))
def test_a_way_is_right_on_every_path_or_the_machine_finds_where_it_is_not(name: str) -> None:
    alone, beside = WAYS["alone"](name), WAYS["beside"](name)

    assert alone.complete
    assert beside.complete
    assert bool(alone) == (name in RIGHT | {"install-and-close"})
    assert bool(beside) == (name in RIGHT)
