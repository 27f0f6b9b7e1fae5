"""After SIGKILL of the parent nothing is left that was to die with it, or that had not begun."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from fdproof import process
from tests.core.child import in_child
from tests.process.children import (
    PR_SET_CHILD_SUBREAPER,
    SLEEP,
    children,
    is_running,
    prctl,
    reap_all,
    until,
)

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")


def after_the_death_of_its_parent(start: Callable[[], int]) -> int:
    """Run ``start``, which returns the pid of a child, in a process that is then killed."""
    reading, writing = os.pipe()
    parent = os.fork()
    if parent == 0:
        try:
            os.close(reading)
            os.write(writing, b"%d" % start())
            signal.pause()
        finally:
            os._exit(1)
    os.close(writing)
    child = int(os.read(reading, 20))
    os.close(reading)
    assert is_running(child)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    return child


@pytest.mark.parametrize("with_user", [False, pytest.param(True, marks=pytest.mark.root)])
def test_a_child_with_a_death_signal_dies(with_user: bool) -> None:
    """A change of ids makes the kernel forget the signal, so it must come before."""
    kept: list[process.Process] = []

    def start() -> int:
        kept.append(
            process.spawn(
                SLEEP,
                parent_death_signal=signal.SIGKILL,
                user="nobody" if with_user else None,
            )
        )
        return kept[-1].pid

    def check() -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        child = after_the_death_of_its_parent(start)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL

    in_child(check)


def test_the_same_without_one_lives_on() -> None:
    """The experiment can fail."""

    def check() -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        kept: list[process.Process] = []

        def start() -> int:
            kept.append(process.spawn(SLEEP))
            return kept[-1].pid

        child = after_the_death_of_its_parent(start)
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    in_child(check)


def test_a_prepared_child_dies_before_its_program(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def check() -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        kept: list[process.Prepared] = []

        def start() -> int:
            kept.append(process.prepare(["touch", str(mark)]))
            return kept[-1].pid

        for _ in range(10):
            child = after_the_death_of_its_parent(start)
            os.waitpid(child, 0)

    in_child(check)
    assert not mark.exists()


def test_a_prepared_child_dies_while_others_hold_its_channel(tmp_path: Path) -> None:
    """A forked process has copies of all descriptors, so the end of the channel does not tell."""
    mark = tmp_path / "mark"

    def check() -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        kept: list[process.Prepared] = []
        forked: list[int] = []

        def start() -> int:
            kept.append(process.prepare(["touch", str(mark)]))
            forked.append(os.fork())
            if forked[-1] == 0:
                signal.pause()
            return kept[-1].pid

        child = after_the_death_of_its_parent(start)
        try:
            until(lambda: not is_running(child))
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        finally:
            # The forked process is left.
            for pid in children():
                os.kill(pid, signal.SIGKILL)
            reap_all()

    in_child(check)
    assert not mark.exists()
