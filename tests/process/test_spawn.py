"""spawn starts what was asked for, as it was asked for, and an error in any step takes the child back."""

import errno
import os
import resource
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fdproof
from fdproof import process
from fdproof.process import DEVNULL, PIPE
from tests.core.child import in_child, refuse
from tests.process.children import (
    CAT,
    CLONE_NEWPID,
    PR_GET_DUMPABLE,
    children,
    is_running,
    prctl,
    signal_mask_of,
    unshare,
    until,
)

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")


def output(argv: list[str], **options: Any) -> str:
    return process.run(argv, encoding="utf-8", check=True, stdout=PIPE, **options).stdout or ""


def shell(script: str, **options: Any) -> str:
    return output(["/bin/sh", "-c", script], **options)


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["true"], 0),
        (["/bin/sh", "-c", "exit 7"], 7),
        (["/bin/sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
        ([b"false"], 1),
        ([Path("/bin/true")], 0),
    ],
)
def test_status_is_subprocess_convention(argv: list[Any], status: int) -> None:
    with process.spawn(argv) as child:
        assert child.wait() == status
        assert child.returncode == child.poll() == status


def test_argv_and_executable() -> None:
    said = output(["another name", "$0"], executable="/bin/echo")

    assert said == "$0\n"
    with process.spawn(["one", "two"], executable="true") as child:
        assert child.args == ("one", "two")


def test_environment_is_the_whole_environment() -> None:
    assert output(["/usr/bin/env"], env={"A": "1", "B": "ä"}) == "A=1\nB=ä\n"
    assert output(["/usr/bin/env"], env={b"A": b"\xff"}, errors="surrogateescape") == "A=\udcff\n"
    assert output(["/usr/bin/env"], env={}) == ""


@pytest.mark.parametrize("start", ["spawn", "prepare", "with other ids"])
@pytest.mark.parametrize("env", [None, {}, {"ME": "1", "MEA": "2", "HOME": "/"}])
def test_the_program_is_told_its_own_pid(start: str, env: dict[str, str] | None) -> None:
    options: dict[str, Any] = {"env": env, "pid_variable": "ME", "stdout": PIPE}
    if start == "with other ids":
        options["group"] = os.getegid()
    if start == "prepare":
        with process.prepare(["/usr/bin/env"], **options) as prepared:
            child = prepared.publish()
    else:
        child = process.spawn(["/usr/bin/env"], **options)
    with child:
        out, _ = child.communicate()
    assert out is not None
    told = dict(line.split(b"=", 1) for line in out.splitlines() if b"=" in line)

    assert told.pop(b"ME") == str(child.pid).encode()
    if env is not None:
        assert told == {name.encode(): env[name].encode() for name in env if name != "ME"}
    assert "ME" not in os.environ


def test_environment_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDPROOF_TEST", "here")
    monkeypatch.delenv("HOME", raising=False)

    lines = output(["env"]).splitlines()

    assert "FDPROOF_TEST=here" in lines
    assert not any(line.startswith("HOME=") for line in lines)


def test_program_is_looked_up_in_the_path_of_the_child(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)

    assert output(["hello"], env={"PATH": f"/nowhere:{tmp_path}"}) == "hello\n"
    assert output(["hello"], env={"PATH": ""}, cwd=tmp_path) == "hello\n"
    with pytest.raises(FileNotFoundError):
        process.spawn(["hello"], env={"PATH": "/nowhere"})


def test_a_program_that_may_not_run_is_remembered_along_the_path(tmp_path: Path) -> None:
    (tmp_path / "true").touch()

    assert output(["true"], env={"PATH": f"{tmp_path}:/bin:/usr/bin"}) == ""
    with pytest.raises(PermissionError):
        process.spawn(["true"], env={"PATH": f"{tmp_path}:/nowhere"})


def test_cwd_umask_session_and_group(tmp_path: Path) -> None:
    assert output(["pwd"], cwd=tmp_path) == f"{tmp_path}\n"
    shell("echo > made", cwd=tmp_path, umask=0o077)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600
    with process.spawn(CAT, stdin=PIPE, new_session=True) as child:
        assert os.getsid(child.pid) == child.pid
    with process.spawn(CAT, stdin=PIPE, process_group=0) as child:
        assert os.getpgid(child.pid) == child.pid
        with process.spawn(CAT, stdin=PIPE, process_group=child.pid) as other:
            assert os.getpgid(other.pid) == child.pid
    with process.spawn(CAT, stdin=PIPE) as child:
        assert os.getpgid(child.pid) == os.getpgrp()


def test_handlers_are_default_and_ignored_signals_ignored() -> None:
    before = (
        signal.signal(signal.SIGUSR1, lambda *_: None),
        signal.signal(signal.SIGUSR2, signal.SIG_IGN),
    )
    try:
        with process.spawn(CAT, stdin=PIPE) as child:
            ignored = signal_mask_of(child.pid, "SigIgn")
            assert signal.SIGUSR2 in ignored
            assert not {signal.SIGUSR1, signal.SIGPIPE, signal.SIGXFSZ} & ignored
            child.send_signal(signal.SIGUSR1)
            assert child.wait() == -signal.SIGUSR1
    finally:
        signal.signal(signal.SIGUSR1, before[0])
        signal.signal(signal.SIGUSR2, before[1])


def test_mask_of_the_calling_thread_is_kept_on_both_sides() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with process.spawn(CAT, stdin=PIPE) as child:
            assert signal_mask_of(child.pid, "SigBlk") == {signal.SIGUSR1}
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {*before, signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.root
def test_user_brings_its_groups_along() -> None:
    assert shell("id -u; id -g; id -G", user="nobody").split() == ["65534", "65534", "65534"]
    assert shell("id -u; id -g; id -G", user=12345, group=23456).split() == [
        "12345",
        "23456",
        "23456",
    ]
    ids = shell("id -u; id -g; id -G", user="nobody", group=7, extra_groups=[8, "daemon"]).split()
    assert ids[:2] == ["65534", "7"]
    assert {*ids[2:]} == {"7", "8", "1"}


@pytest.mark.root
def test_a_change_of_user_leaves_this_process_dumpable() -> None:
    with process.spawn(CAT, stdin=PIPE, user="nobody", parent_death_signal=signal.SIGKILL) as child:
        # A change of ids on shared memory would have made it root's alone.
        assert prctl(PR_GET_DUMPABLE) == 1
        assert child.poll() is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"user": "nobody-at-all"}, "user: there is no user 'nobody-at-all'"),
        ({"user": 54321}, "give group="),
        ({"group": "nobody-at-all"}, "group: there is no group"),
        ({"extra_groups": [-1]}, "extra_groups: -1 is not"),
        ({"umask": 0o1000}, "umask: 512 is not between"),
        ({"pid_variable": "A=B"}, "pid_variable: 'A=B' cannot be the name of a variable"),
        ({"pid_variable": ""}, "pid_variable: '' cannot be the name of a variable"),
        ({"parent_death_signal": 0}, "parent_death_signal: 0 is not between"),
        ({"new_session": True, "process_group": 0}, "process_group: a new session begins"),
        ({"env": {"A=B": "1"}}, "env: 'A=B' cannot be the name"),
        ({"env": {"A": "\0"}}, "contains a NUL byte"),
        ({"cwd": "a\0b"}, "cwd: .* contains a NUL byte"),
        ({"executable": ""}, "names no program"),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        process.spawn(["true"], **options)


def test_argv_that_cannot_be() -> None:
    with pytest.raises(TypeError, match="takes a list of arguments, not one string"):
        process.spawn("true")
    with pytest.raises(ValueError, match="names no program"):
        process.spawn([])
    with pytest.raises(TypeError, match="umask: takes an int"):
        process.spawn(["true"], umask="022")  # type: ignore[arg-type]


STEPS: list[tuple[str, dict[str, Any], type[OSError], str | None]] = [
    ("exec", {"executable": "/nowhere/at-all"}, FileNotFoundError, "/nowhere/at-all"),
    ("exec", {"executable": "/etc/passwd"}, PermissionError, "/etc/passwd"),
    ("exec", {"executable": "/etc/passwd/x"}, NotADirectoryError, "/etc/passwd/x"),
    ("chdir", {"cwd": "/nowhere"}, FileNotFoundError, "/nowhere"),
    ("setpgid", {"process_group": 2**31 - 1}, OSError, "2147483647"),
    ("files", {"files": {5: 999}}, OSError, None),
]


@pytest.mark.parametrize("start", [process.spawn, process.prepare], ids=["spawn", "prepare"])
@pytest.mark.parametrize(("step", "options", "kind", "name"), STEPS)
def test_a_failed_step_takes_the_child_back(
    start: Any, step: str, options: dict[str, Any], kind: type[OSError], name: str | None
) -> None:
    def started() -> None:
        with start(["true"], stdin=PIPE, stdout=PIPE, **options) as child:
            # The exec of a prepared child is all that is left to fail.
            assert step == "exec"
            child.publish()

    with pytest.raises(kind, match=f"{step}: ") as caught:
        started()

    assert caught.value.filename == name
    assert children() == set()


def test_a_full_table_is_told_before_there_is_a_child() -> None:
    def check() -> None:
        with fdproof.open("/") as lowest:
            free = lowest.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
        for start in (process.spawn, process.prepare):
            with pytest.raises(OSError, match="Too many open files") as caught:
                start(["true"])
            assert caught.value.errno == errno.EMFILE
            # Looking into /proc would take a descriptor.
            with pytest.raises(ChildProcessError):
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)

    in_child(check)


def test_a_missing_interpreter_is_told_from_a_missing_file(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)

    with pytest.raises(FileNotFoundError, match="interpreter or loader"):
        process.spawn([script])
    with pytest.raises(FileNotFoundError, match="interpreter or loader"):
        process.spawn(["./script"], cwd=tmp_path)


def test_a_step_that_needs_rights_says_which() -> None:
    def check() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        steps: list[tuple[dict[str, Any], str]] = [
            ({"user": 12345, "group": 1, "extra_groups": [1]}, "setgroups: "),
            ({"group": 0}, "setresgid: "),
        ]
        for options, step in steps:
            with pytest.raises(PermissionError, match=step):
                process.spawn(["true"], **options)
        assert children() == set()

    in_child(check)


@pytest.mark.parametrize(
    ("call", "number", "message"),
    [
        ("clone", errno.EAGAIN, "clone: Resource temporarily"),
        ("close_range", errno.ENOSYS, "5.9"),
        ("close_range", errno.EMFILE, "unshare: Too many open"),
        ("prctl", errno.EPERM, "prctl: "),
        ("setsid", errno.EPERM, "setsid: "),
    ],
)
@pytest.mark.requires_kernel("seccomp notifier")
def test_a_refused_system_call_takes_the_child_back(call: str, number: int, message: str) -> None:
    def check() -> None:
        only = (0, 1) if call == "prctl" else None
        refuse({call: (number, only)})
        for start in (process.spawn, process.prepare):
            before = sorted(os.listdir("/proc/self/fd"))
            with pytest.raises(OSError, match=message) as caught:
                start(["true"], new_session=True, parent_death_signal=9, stdin=PIPE)
            assert caught.value.errno == number
            assert sorted(os.listdir("/proc/self/fd")) == before
            assert children() == set()

    in_child(check)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A control group of version 2, where one can be made."""
    for top in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (top / "cgroup.procs").exists() and (top / "cgroup.controllers").exists():
            break
    else:
        pytest.skip("no control groups of version 2 here")
    place = top / f"fdproof-test-{os.getpid()}"
    try:
        place.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield place
    until(lambda: not (place / "cgroup.procs").read_text())
    place.rmdir()


@pytest.mark.root
@pytest.mark.parametrize("start", [process.spawn, process.prepare], ids=["spawn", "prepare"])
def test_child_starts_in_its_cgroup(cgroup: Path, start: Any) -> None:
    with fdproof.open(cgroup) as directory:
        for given in (cgroup, str(cgroup), directory):
            with start(CAT, stdin=PIPE, cgroup=given) as child:
                assert (cgroup / "cgroup.procs").read_text() == f"{child.pid}\n"
                if start is process.spawn:
                    child.kill()


def test_a_cgroup_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        process.spawn(["true"], cgroup=tmp_path, stdin=PIPE, stdout=DEVNULL)

    assert caught.value.filename == str(tmp_path / "cgroup.procs")


def test_a_child_in_a_new_pid_namespace_is_no_orphan() -> None:
    def check() -> None:
        if os.geteuid() != 0 or not unshare(CLONE_NEWPID):
            return
        # Its parent is outside: getppid says 0 there.
        with process.spawn(["true"], parent_death_signal=signal.SIGKILL) as child:
            assert child.wait() == 0

    in_child(check)


def test_the_child_is_the_callers_and_no_thread_of_it() -> None:
    with process.spawn(CAT, stdin=PIPE) as child:
        assert is_running(child.pid)
        assert children() == {child.pid}
        link = os.readlink(f"/proc/{child.pid}/exe")
    assert link != os.path.realpath(sys.executable)
