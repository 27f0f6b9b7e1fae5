"""Ctrl-C, SIGTERM and SIGKILL: what was found is told, and no process is left."""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.check.command_line import FDPROOF, environment
from tests.check.swept import DIRECTORY
from tests.notifier.scene import ended, until

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

OPERATIONS = DIRECTORY / "operations.py"


def children(pid: int) -> list[int]:
    return [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for child in found:
        found += children(child)
    return found


@contextmanager
def watched(root: int) -> Iterator[list[int]]:
    """Pidfds of everything below a process; the processes must be gone at the end."""
    pidfds = [os.pidfd_open(pid) for pid in descendants(root)]
    try:
        yield pidfds
        for pidfd in pidfds:
            until(lambda: ended(pidfd))  # noqa: B023
    finally:
        for pidfd in pidfds:
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # as it should be
            os.close(pidfd)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment with a directory for temporary files that must be empty at the end."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    yield environment(tmp_path) | {"TMPDIR": str(temporary)}
    assert list(temporary.iterdir()) == []


def started(place: dict[str, str], name: str, *options: str) -> subprocess.Popen[str]:
    """A check that stands still in a run, with a grandchild that is on its own."""
    process = subprocess.Popen(
        [*FDPROOF, "check", "--timeout", "100", *options, f"{OPERATIONS}:{name}"],
        env=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    told = Path(place["OPERATION_DIRECTORY"]) / "told"
    until(lambda: process.poll() is not None or (told.exists() and told.read_text() == "there"))
    assert process.poll() is None
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_a_run(place: dict[str, str], number: int) -> None:
    process = started(place, "slow_after_a_leak", "--jobs", "1", "--no-stacks")
    with watched(process.pid) as pidfds:
        # A stage, its target, the target's child and grandchild.
        assert len(pidfds) >= 4
        process.send_signal(number)
        out, err = process.communicate()

    assert process.returncode == 130
    assert out.startswith("LEAK  2 descriptors left open\n")
    assert "\nInterrupted: 2 of 42 faults were run.\n" in out
    assert err == ""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_killed_in_a_run(place: dict[str, str], jobs: str) -> None:
    process = started(place, "slow_after_a_leak", "--jobs", jobs)
    with watched(process.pid) as pidfds:
        assert len(pidfds) >= 4
        process.kill()
        process.communicate()

    assert process.returncode == -signal.SIGKILL


def test_interrupted_with_several_jobs(place: dict[str, str]) -> None:
    process = started(place, "slow_after_a_leak", "--jobs", "2")
    with watched(process.pid):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    assert process.returncode == 130
    assert "\nInterrupted: " in f"\n{out}"
    assert err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_the_warm_up(place: dict[str, str], number: int) -> None:
    process = started(place, "tells_and_waits")
    with watched(process.pid) as pidfds:
        assert len(pidfds) >= 3
        process.send_signal(number)
        out, err = process.communicate()

    assert err == ""
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 130
        assert out.startswith("Interrupted: ")


@contextmanager
def in_a_terminal(place: dict[str, str], *arguments: str) -> Iterator[tuple[int, int]]:
    """A check in the foreground of a terminal of its own: its pid, and the terminal's other side."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.execve(FDPROOF[0], [*FDPROOF, "check", *arguments], place)
        finally:
            os._exit(99)
    try:
        yield pid, terminal
    finally:
        os.close(terminal)


def output(terminal: int) -> str:
    """What is written to the terminal until nobody has it open."""
    text = b""
    while True:
        try:
            text += os.read(terminal, 65536)
        except OSError:
            return text.decode().replace("\r\n", "\n")


def test_control_c_in_a_terminal(place: dict[str, str]) -> None:
    arguments = ("--timeout", "100", "--jobs", "1", f"{OPERATIONS}:slow_after_a_leak")
    with in_a_terminal(place, *arguments) as (pid, terminal):
        told = Path(place["OPERATION_DIRECTORY"]) / "told"
        until(lambda: told.exists() and told.read_text() == "there")
        with watched(pid) as pidfds:
            assert len(pidfds) >= 4
            os.write(terminal, b"\x03")
            text = output(terminal)
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 130
    assert "LEAK" in text
    assert "2 of 42 faults were run." in text
    assert "Traceback" not in text


def test_a_bar_on_a_terminal(place: dict[str, str]) -> None:
    with in_a_terminal(place, "--no-stacks", f"{OPERATIONS}:many_points") as (pid, terminal):
        text = output(terminal)
        _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 1
    assert "faults" in text
    assert "/42" in text
    assert text.index("/42") < text.index("descriptors left open")


def test_no_bar_on_a_dumb_terminal(place: dict[str, str]) -> None:
    place["TERM"] = "dumb"
    with in_a_terminal(place, "--no-stacks", f"{OPERATIONS}:many_points") as (pid, terminal):
        text = output(terminal)
        os.waitpid(pid, 0)

    assert "/42" not in text
    assert "descriptors left open" in text


def test_no_bar_in_a_pipe(place: dict[str, str]) -> None:
    result = subprocess.run(
        [*FDPROOF, "check", "--no-stacks", f"{OPERATIONS}:many_points"],
        env=place,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (result.returncode, result.stderr) == (1, "")
    assert "\x1b" not in result.stdout
