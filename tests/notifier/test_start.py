"""Targets start with the listener in the supervisor's hands, or not at all."""

import errno
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fdproof
from fdproof import Error, UnsupportedError
from fdproof.notifier import Filter, Target, fork, spawn
from fdproof.notifier._start import Handover
from tests.core.child import in_child, refuse
from tests.core.full_table import limit
from tests.core.own_table import table
from tests.notifier.scene import pipe, received, resumed, signals

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

GETSID = Filter(["getsid"])
PYTHON = [sys.executable, "-ISc"]

STARTS: dict[str, Callable[[], Target]] = {
    "fork": lambda: fork(GETSID, lambda: None),
    "spawn": lambda: spawn(GETSID, ["true"]),
}
each_start = pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)


def no_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def test_a_forked_function_is_supervised_from_its_first_call() -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        assert resumed(target) == ["getsid"]
        assert target.wait() == 0


def test_a_spawned_command_is_supervised_from_its_first_call() -> None:
    with spawn(GETSID, [*PYTHON, "import os; os.getsid(0)"]) as target:
        assert resumed(target) == ["getsid"]
        assert target.wait() == 0


@pytest.mark.parametrize("names", [["close"], ["rt_sigprocmask"], ["execve", "execveat"]])
def test_the_start_itself_is_not_supervised(names: list[str]) -> None:
    """The supervisor stands still until the exec: a call that stopped before it would never go on."""

    def check() -> None:
        die_rather_than_hang()
        with spawn(Filter(names), ["true"]) as target:
            resumed(target)
            assert target.wait() == 0

    in_child(check)


def die_rather_than_hang() -> None:
    """In a child: a start that never comes back blocks every signal but SIGKILL."""
    me = os.getpid()
    if os.fork() == 0:
        with fdproof.pidfd(me) as process:
            if not select.select([process], [], [], 10)[0]:
                os.kill(me, signal.SIGKILL)
        os._exit(0)


def test_exit_group_is_supervised_but_not_that_of_a_start_that_fails(tmp_path: Path) -> None:
    filter = Filter(["exit_group"])
    with spawn(filter, ["true"]) as target:
        assert resumed(target) == ["exit_group"]
        assert target.wait() == 0

    def check() -> None:
        die_rather_than_hang()
        with pytest.raises(OSError, match=r"\[Errno 8\]"):
            spawn(filter, [str(unreadable_format(tmp_path))])

    in_child(check)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_the_target_has_no_copy_of_the_listener(start: str) -> None:
    """If it had, its calls would wait for ever when the supervisor dies."""
    code = "import os; os.getsid(0)"
    forked = start == "fork"
    with fork(GETSID, lambda: exec(code)) if forked else spawn(GETSID, [*PYTHON, code]) as target:
        received(target)
        links = Path(f"/proc/{target.pid}/fd")
        assert [link for link in links.iterdir() if "seccomp" in os.readlink(link)] == []
        assert "seccomp" in os.readlink(f"/proc/self/fd/{target.listener.fileno()}")


@each_start
def test_without_room_there_is_no_target(start: Callable[[], Target]) -> None:
    """At each descriptor that a start takes: no child is left, and no descriptor."""

    def check(room: int) -> Callable[[], None]:
        def run() -> None:
            limit(room)
            before = table()
            with pytest.raises(OSError, match=rf"\[Errno {errno.EMFILE}\]") as raised:
                start()
            assert not isinstance(raised.value, UnsupportedError)
            assert table() == before
            assert no_children()

        return run

    def enough() -> None:
        limit(3)
        start().close()

    for room in range(3):
        in_child(check(room))
    in_child(enough)


def unreadable_format(directory: Path) -> Path:
    file = directory / "garbage"
    file.write_text("no program")
    file.chmod(0o755)
    return file


def not_executable(directory: Path) -> Path:
    file = directory / "text"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o644)
    return file


def without_interpreter(directory: Path) -> Path:
    file = directory / "script"
    file.write_text(f"#!{directory}/missing\n")
    file.chmod(0o755)
    return file


COMMANDS: dict[str, tuple[Callable[[Path], Path], int, str]] = {
    "missing": (lambda directory: directory / "missing", errno.ENOENT, "not found"),
    "not executable": (not_executable, errno.ENOENT, "not executable"),
    "no program": (unreadable_format, errno.ENOEXEC, "execve: "),
    "interpreter missing": (without_interpreter, errno.ENOENT, "execve: "),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_that_cannot_run_leaves_nothing(case: str, tmp_path: Path) -> None:
    make, number, message = COMMANDS[case]
    path = str(make(tmp_path))

    with pytest.raises(OSError, match=message) as raised:
        spawn(GETSID, [path])

    assert (raised.value.errno, raised.value.filename) == (number, path)
    assert no_children()


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")

    with pytest.raises(FileNotFoundError, match="chdir: ") as raised:
        spawn(GETSID, ["true"], directory=missing)

    assert raised.value.filename == missing
    assert no_children()


def test_arguments_that_no_command_can_have() -> None:
    with pytest.raises(ValueError, match="names no command"):
        spawn(GETSID, [])
    with pytest.raises(ValueError, match="NUL byte"):
        spawn(GETSID, ["true", "a\0b"])
    with pytest.raises(ValueError, match="NUL byte"):
        spawn(GETSID, ["true"], environment={"A": "\0"})


def test_a_command_gets_arguments_environment_and_directory(tmp_path: Path) -> None:
    script = "import os, sys; open('told', 'w').write(repr((sys.argv[1:], os.environ['TOLD'])))"
    with spawn(
        GETSID, [*PYTHON, script, "ä b"], environment={"TOLD": "x=y"}, directory=str(tmp_path)
    ) as target:
        assert target.wait() == 0
    assert (tmp_path / "told").read_text() == "(['ä b'], 'x=y')"


def test_a_command_inherits_what_is_inheritable_and_nothing_else(tmp_path: Path) -> None:
    script = (
        "import os, sys; print(*(n for n in map(int, sys.argv[2:]) if os.path.exists(f'/proc/self/fd/{n}')),"
        " file=open(sys.argv[1], 'w'))"
    )
    with (
        fdproof.memfd("kept") as kept,
        fdproof.memfd("passed", inheritable=True) as passed,
        fdproof.memfd("passed", inheritable=True) as last,
    ):
        numbers = [owner.fileno() for owner in (kept, passed, last)]
        told = tmp_path / "told"
        listener = str(last.fileno() + 2)
        with spawn(GETSID, [*PYTHON, script, str(told), *map(str, numbers), listener]) as target:
            assert target.listener.fileno() == int(listener)
            assert target.wait() == 0
    assert told.read_text().split() == [str(number) for number in numbers[1:]]


def test_a_command_starts_with_its_parents_mask_and_no_handlers(tmp_path: Path) -> None:
    """As every command expects: ignored stays ignored, but not what Python ignores for itself."""
    handled = signal.signal(signal.SIGUSR1, lambda *_: None)
    ignored = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    try:
        with spawn(GETSID, ["cp", "/proc/self/status", str(tmp_path / "status")]) as target:
            assert target.wait() == 0
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGUSR1, handled)
        signal.signal(signal.SIGUSR2, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    lines = dict(
        line.split(":", 1) for line in (tmp_path / "status").read_text().splitlines() if ":" in line
    )
    bits = {name: int(lines[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")}
    assert bits["SigCgt"] == 0
    assert bits["SigBlk"] == sum(1 << (number - 1) for number in blocked)
    assert bits["SigIgn"] >> (signal.SIGUSR2 - 1) & 1
    for number in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ):
        assert not bits["SigIgn"] >> (number - 1) & 1
    assert signal.SIGUSR2 not in signals(os.getpid(), "SigIgn")


def test_a_target_that_dies_before_it_has_its_filter() -> None:
    handover = Handover()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    with fdproof.pidfd(pid) as process, pytest.raises(Error, match="died before its filter"):
        handover.fetch(process)
    os.waitpid(pid, 0)


def test_a_target_that_says_nothing() -> None:
    handover = Handover()
    with pipe() as (reading, writing):
        pid = os.fork()
        if pid == 0:
            os.read(reading, 1)
            os._exit(0)
        with fdproof.pidfd(pid) as process, pytest.raises(Error, match=r"no filter within 0\.0"):
            handover.fetch(process, timeout=0)
        os.write(writing, b".")
        os.waitpid(pid, 0)


def test_a_target_cannot_be_supervised_twice(capfd: pytest.CaptureFixture[str]) -> None:
    """One listener for each process: the kernel says EBUSY."""

    def function() -> None:
        for again in STARTS.values():
            with pytest.raises(OSError, match=rf"\[Errno {errno.EBUSY}\]"):
                again()

    with fork(GETSID, function) as target:
        resumed(target)
        assert target.wait() == 0


@pytest.mark.parametrize(
    ("call", "number", "feature"),
    [
        ("seccomp", errno.EINVAL, "NEW_LISTENER"),
        ("pidfd_getfd", errno.EPERM, "ptrace_scope"),
        ("pidfd_getfd", errno.ENOSYS, "Linux 5.6"),
    ],
)
def test_what_is_missing_is_named(call: str, number: int, feature: str) -> None:
    def check() -> None:
        before = table()
        refuse({call: (number, None)})
        for name, start in STARTS.items():
            if name == "spawn" and call != "seccomp":
                continue
            with pytest.raises(UnsupportedError, match=feature):
                start()
        assert table() == before
        assert no_children()

    in_child(check)


@each_start
@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOMEM])
def test_a_filter_that_is_refused(start: Callable[[], Target], number: int) -> None:
    def check() -> None:
        before = table()
        refuse({"seccomp": (number, None)})
        with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
            start()
        assert table() == before
        assert no_children()

    in_child(check)
