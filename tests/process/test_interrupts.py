"""Ctrl-C at every bytecode boundary: a child is owned or reaped, never lost."""

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator

import pytest

from fdproof import process
from fdproof.process import DEVNULL, PIPE
from tests.core.boundaries import _interrupt
from tests.core.own_table import table
from tests.process.children import CAT, SLEEP, children

pytestmark = [
    pytest.mark.requires_kernel("pidfd_open", "close_range"),
    # An owner that an interrupt drops warns, and ends what it owns: here that is the right end.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:process .* was still running:ResourceWarning"),
    pytest.mark.timeout(300),
]

# The longer operations are interrupted at some of their boundaries only, unless CI asks for all.
STRIDE = int(os.environ.get("FDPROOF_INTERRUPT_STRIDE", "7"))

# A whole path, so that nothing is looked up.
TRUE = ["/bin/true"]


def with_spawn() -> None:
    with process.spawn(TRUE) as child:
        child.wait()


def with_spawn_and_pipes() -> None:
    with process.spawn(["/bin/cat"], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, files={7: 0}):
        pass


def assigned_spawn() -> None:
    child = process.spawn(["/bin/sleep", "1000"])
    try:
        child.terminate()
        child.wait()
    finally:
        child.close()


def failing_spawn() -> None:
    try:
        process.spawn(["/nowhere"], stdin=PIPE)
    except FileNotFoundError:
        pass


def published() -> None:
    with process.prepare(TRUE, stdout=PIPE) as child:
        with child.publish() as running:
            running.wait()


def given_up() -> None:
    with process.prepare(TRUE, stdin=PIPE) as child:
        assert child.pid


def run() -> None:
    assert process.run(["/bin/cat"], input=b"x", capture=True).stdout == b"x"


def waiting_for_many() -> None:
    with process.spawn(TRUE) as first, process.spawn(TRUE) as second:
        process.wait_many([first, second], count=None)


def fetching() -> None:
    with process.spawn(CAT, stdin=PIPE, files={7: 0}) as child:
        with child.fetch(7) as one, child.namespace("net") as two:
            assert one.fileno() != two.fileno()


def killing_a_tree() -> None:
    with process.spawn(SLEEP) as child:
        child.kill_tree()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    # What exists already cannot hold what is new: collecting stays cheap.
    gc.collect()
    gc.freeze()
    # Hypothesis is called back by each collection, and an interrupt in a callback is swallowed.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        signal.signal(signal.SIGINT, handler)


def damage_of(operation: Callable[[], None], stride: int) -> tuple[int, list[str]]:
    """Interrupt ``operation`` at its boundaries until a run comes to its end before the interrupt.

    How many boundaries there are depends on the child, which writes and ends when it likes.

    Returns:
        How many interruptions there were, and what was left or lost after each.
    """
    damage = []
    boundary = 0
    before = table(), children()
    with interruptible():
        while place := _interrupt(operation, boundary).place:
            boundary += stride
            if (table(), children()) != before:
                gc.collect()
            if (after := (table(), children())) != before:
                damage.append(f"{place}: {before} is now {after}")
                before = after
    return boundary // stride, damage


@pytest.mark.parametrize(
    ("operation", "stride"),
    [
        (with_spawn, 1),
        (with_spawn_and_pipes, 1),
        (assigned_spawn, 1),
        (failing_spawn, 1),
        (published, STRIDE),
        (given_up, STRIDE),
        (run, STRIDE),
        (waiting_for_many, STRIDE),
        (fetching, STRIDE),
        (killing_a_tree, STRIDE),
    ],
)
def test_an_interrupt_anywhere_loses_no_child(operation: Callable[[], None], stride: int) -> None:
    interruptions, damage = damage_of(operation, stride)

    assert interruptions > 50
    assert damage == []


def with_a_pid() -> None:
    pid = os.posix_spawn(TRUE[0], TRUE, {})
    try:
        os.getpgid(pid)
    finally:
        os.waitpid(pid, 0)


def test_the_same_with_a_pid_loses_children() -> None:
    """The experiment can fail."""
    _, damage = damage_of(with_a_pid, 1)

    assert damage
    for pid in children():
        os.waitpid(pid, 0)
