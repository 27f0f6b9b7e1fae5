"""kill_tree ends a process with all that it has started, while it goes on starting."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fdproof import process
from fdproof.process import PIPE, Process, _tree
from fdproof.process._child import Child
from tests.core.child import in_child, refuse
from tests.process.children import (
    PR_SET_CHILD_SUBREAPER,
    children,
    is_running,
    prctl,
    reap_all,
    until,
)

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")


def as_subreaper(check: Callable[[], None]) -> None:
    """Run ``check`` where nothing that it leaves behind can get away."""

    def inner() -> None:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        check()
        # What was killed needs a moment to die, what was not never does.
        for _ in range(5000):
            survivors = {pid for pid in children() if is_running(pid)}
            if not survivors:
                break
            time.sleep(0.001)
        for pid in survivors:
            os.kill(pid, signal.SIGKILL)
        reap_all()
        assert survivors == set()

    in_child(inner)


def test_generations_are_killed() -> None:
    def check() -> None:
        script = 'sleep 1000 & sh -c "sleep 1000 & sh -c \\"sleep 1000 & echo ready; wait\\""'
        with process.spawn(["/bin/sh", "-c", script], stdout=PIPE) as child:
            assert child.stdout is not None
            assert os.read(child.stdout.fileno(), 10) == b"ready\n"
            assert child.kill_tree() >= 5
            assert child.wait() == -signal.SIGKILL

    as_subreaper(check)


def test_a_tree_that_goes_on_growing_is_killed() -> None:
    def check() -> None:
        script = "echo ready; while :; do sleep 1000 & sleep 0.001; done"
        for _ in range(5):
            with process.spawn(["/bin/sh", "-c", script], stdout=PIPE) as child:
                assert child.stdout is not None
                os.read(child.stdout.fileno(), 10)
                until(lambda: len(_tree._numbers_of_children(child.pid)) > 5)
                child.kill_tree()

    as_subreaper(check)


def test_without_the_list_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONFIG_PROC_CHILDREN is off in some kernels."""

    def missing(place: str, *arguments: object, **options: object) -> object:
        if place.endswith("/children"):
            raise FileNotFoundError(2, "missing", place)
        return open(place, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(_tree, "open", missing, raising=False)
    test_generations_are_killed()


def test_a_process_that_has_ended_is_left_alone() -> None:
    with process.spawn(["true"]) as child:
        child.wait()
        assert child.kill_tree() == 0


def test_the_children_of_a_newcomer_with_its_number_are_left_alone() -> None:
    """A reaped process has no children, whoever has its number now."""
    with process.spawn(["true"]) as gone:
        gone.wait()
        with process.spawn(["/bin/sh", "-c", "sleep 1000; :"]) as newcomer:
            until(lambda: len(_tree._numbers_of_children(newcomer.pid)) == 1)
            late = Child(newcomer.pid, gone.detach())

            assert list(_tree._new(late, {})) == []

            late.close()
            assert newcomer.kill_tree() == 2


def test_a_tree_is_killed_also_when_the_search_fails() -> None:
    def check() -> None:
        with process.spawn(["/bin/sh", "-c", "sleep 1000; :"]) as child:
            until(lambda: len(_tree._numbers_of_children(child.pid)) == 1)
            grandchild = _tree._numbers_of_children(child.pid)[0]
            # Stopped, and then there is no descriptor for its child.
            refuse({"pidfd_open": (errno.EMFILE, None)})
            with pytest.raises(OSError, match="Too many open files"):
                child.kill_tree()
            assert child.wait() == -signal.SIGKILL
            os.kill(grandchild, signal.SIGKILL)

    as_subreaper(check)


def test_others_can_be_killed_too() -> None:
    def check() -> None:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 1000; :"], {})
        until(lambda: len(_tree._numbers_of_children(pid)) == 1)
        with Process.open(pid) as other:
            assert other.kill_tree() == 2
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL

    as_subreaper(check)


def test_a_program_may_have_any_name(tmp_path: Path) -> None:
    odd = tmp_path / "a) S 1 (b"
    odd.symlink_to("/bin/sleep")
    with process.spawn([odd, "1000"]) as child:
        until(lambda: os.readlink(f"/proc/{child.pid}/exe").endswith("sleep"))
        assert _tree._stat(child.pid)[1] == os.getpid()
        assert _tree._numbers_of_children(os.getpid()) == [child.pid]
        child.kill()
