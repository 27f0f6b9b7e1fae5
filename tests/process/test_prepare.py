"""A prepared child is there before its program, and without a publish the program never runs."""

import errno
import os
import signal
from pathlib import Path

import pytest

import fdproof
from fdproof import process
from fdproof.process import PIPE, Process
from tests.core.child import in_child, refuse
from tests.process.children import CAT, children, is_running, table_in_child, until

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")


def test_publish_lets_the_program_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with process.prepare(["touch", str(mark)]) as child:
        assert os.getpgid(child.pid) == os.getpgrp()
        with Process.open(child.pid) as other:
            assert os.fstat(other.fileno()).st_ino == os.fstat(child.fileno()).st_ino
        assert not mark.exists()
        with child.publish() as running:
            assert running.pid == child.pid
            assert running.wait() == 0
            with pytest.raises(fdproof.StateError):
                child.publish()
            with pytest.raises(fdproof.StateError):
                child.fileno()
        assert "published" in repr(child)

    assert mark.exists()


def test_leaving_without_publish_kills_before_the_program(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for _ in range(20):
        with process.prepare(["touch", str(mark)], stdout=PIPE) as child:
            pid = child.pid
        assert not is_running(pid)
        assert "given up" in repr(child)
        with pytest.raises(fdproof.StateError):
            child.publish()
        child.close()

    assert not mark.exists()
    assert children() == set()


def test_a_dropped_one_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.warns(ResourceWarning):
        process.prepare(["touch", str(mark)])

    assert not mark.exists()
    assert children() == set()


def test_published_outlives_the_block() -> None:
    with process.prepare(CAT, stdin=PIPE, stdout=PIPE) as child:
        running = child.publish()
    with running:
        assert running.communicate(b"text") == (b"text", None)


def test_its_table_holds_what_was_given_and_a_channel(tmp_path: Path) -> None:
    with fdproof.memfd("given") as given, fdproof.memfd("other", inheritable=True):
        with process.prepare(CAT, stdin=PIPE, files={3: given, 9: given}) as child:
            table = {
                int(name): os.readlink(f"/proc/{child.pid}/fd/{name}")
                for name in os.listdir(f"/proc/{child.pid}/fd")
            }
            with child.publish() as running:
                after = {int(name) for name in os.listdir(f"/proc/{running.pid}/fd")}

    assert table.keys() == {0, 1, 2, 3, 4, 9}
    assert table[3].startswith("/memfd:given")
    assert table[4].startswith("socket:")
    assert after == {0, 1, 2, 3, 9}
    assert table_in_child(tmp_path / "table").keys() == {0, 1, 2}


def test_signals_wait_for_the_publish() -> None:
    with process.prepare(CAT, stdin=PIPE) as child:
        os.kill(child.pid, signal.SIGTERM)
        with child.publish() as running:
            assert running.wait() == -signal.SIGTERM


def test_a_child_that_died_before_cannot_be_published() -> None:
    with process.prepare(CAT, stdin=PIPE) as child:
        os.kill(child.pid, signal.SIGKILL)
        until(lambda: not is_running(child.pid))
        with pytest.raises(ProcessLookupError, match="died before it was published"):
            child.publish()

    assert children() == set()


def test_the_death_signal_is_what_was_asked_for(tmp_path: Path) -> None:
    script = tmp_path / "tell"
    script.write_text(
        "import ctypes\nvalue = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(value))\nprint(value.value)\n"
    )
    for asked in (None, signal.SIGHUP):
        with process.prepare(
            ["python3", str(script)], stdout=PIPE, parent_death_signal=asked
        ) as child:
            with child.publish() as running:
                out, _ = running.communicate()
        assert int(out or b"") == (asked or 0)


@pytest.mark.requires_kernel("seccomp notifier")
def test_a_child_that_cannot_announce_itself_is_taken_back() -> None:
    def check() -> None:
        refuse({"write": (errno.EIO, (2, 1))})
        with pytest.raises(OSError, match="announce: Input/output error"):
            process.prepare(CAT, stdin=PIPE)
        assert children() == set()

    in_child(check)
