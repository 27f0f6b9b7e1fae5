"""A target lives as long as its supervisor wants, and no longer than its supervisor."""

import errno
import os
import signal
import sys

import pytest

from fdproof import StateError
from fdproof.notifier import Filter, Target, fork, spawn
from fdproof.notifier._start import mark
from tests.notifier.scene import ended, pipe, received, until

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

GETSID = Filter(["getsid"])
PYTHON = [sys.executable, "-ISc"]


def test_a_function_that_raises_ends_with_one(capfd: pytest.CaptureFixture[str]) -> None:
    def function() -> None:
        raise LookupError("said by the target")

    with fork(GETSID, function) as target:
        assert target.wait() == 1
    assert "LookupError: said by the target" in capfd.readouterr().err


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_status_of_a_target(start: str) -> None:
    def begin(code: str) -> Target:
        if start == "fork":
            return fork(GETSID, lambda: exec(code))
        return spawn(GETSID, [*PYTHON, code])

    with begin("import os; os._exit(7)") as target:
        assert (target.wait(), target.poll(), target.wait()) == (7, 7, 7)
    with begin("import os; os.kill(os.getpid(), 15)") as target:
        assert target.wait() == -signal.SIGTERM


def test_poll_kill_wait_close() -> None:
    with pipe() as (reading, _):
        target = fork(GETSID, lambda: os.read(reading, 1) and None)
        assert target.poll() is None
        assert repr(target) == f"<fdproof.notifier.Target {target.pid}>"
        target.kill()
        target.kill()
        assert target.wait() == target.wait() == target.poll() == -signal.SIGKILL
        target.kill()
        target.close()
        target.close()
        assert target.wait() == -signal.SIGKILL
        with pytest.raises(StateError, match="was closed"), target:
            pass


def test_close_ends_a_target_that_waits_for_an_answer() -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        received(target)
    assert target.poll() == -signal.SIGKILL


def test_children_and_threads_are_supervised_too() -> None:
    def function() -> None:
        import threading

        os.getsid(0)
        thread = threading.Thread(target=lambda: os.getsid(0))
        thread.start()
        thread.join()
        pid = os.fork()
        if pid == 0:
            os.getsid(0)
            os._exit(0)
        os.waitpid(pid, 0)

    with fork(GETSID, function) as target:
        tasks = []
        for call in target.listener:
            tasks.append(call.pid)
            call.resume()
        assert target.wait() == 0
    assert tasks[0] == target.pid
    assert len(set(tasks)) == 3


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_nothing_is_stranded_when_the_supervisor_dies(start: str) -> None:
    """The target dies; its child, which does not, gets ENOSYS instead of waiting for ever."""
    script = """
import os, sys
telling, before = int(sys.argv[1]), int(sys.argv[2])
if os.fork() == 0:
    os.write(telling, b"%d " % os.getpid())
    if before: os.read(before, 1)
    try: os.getsid(0); text = b"ran"
    except OSError as error: text = b"%d" % error.errno
    os.write(telling, text)
    os._exit(0)
os.write(telling, b"%d " % os.getpid())
os.read(int(sys.argv[3]), 1)
"""
    for waits_already in (True, False):
        with pipe() as (told, telling), pipe() as (gate, open_gate), pipe() as (never, _):
            for number in (telling, gate, never):
                os.set_inheritable(number, True)
            arguments = [str(telling), str(0 if waits_already else gate), str(never)]

            def supervise(arguments: list[str] = arguments) -> Target:
                if start == "spawn":
                    return spawn(GETSID, [*PYTHON, script, *arguments])
                code = script.replace("sys.argv", repr(["", *arguments]))
                return fork(GETSID, lambda: exec(code, {}))

            supervisor = os.fork()
            if supervisor == 0:
                target = supervise()
                if waits_already:
                    received(target)
                os.kill(target.pid, 0)
                os.write(telling, b"ready ")
                os.read(never, 1)
                os._exit(0)
            words: list[bytes] = []
            text = b""
            while len(words) < 3 or not text.endswith(b" "):
                text += os.read(told, 100)
                words = text.split()
            pids = [int(word) for word in words if word != b"ready"]
            pidfds = [os.pidfd_open(pid) for pid in pids]
            os.kill(supervisor, signal.SIGKILL)
            os.waitpid(supervisor, 0)
            os.write(open_gate, b".")
            os.close(telling)
            answer = b"".join(iter(lambda: os.read(told, 100), b""))
            assert answer == b"%d" % errno.ENOSYS
            for pidfd in pidfds:
                until(lambda: ended(pidfd))  # noqa: B023
                os.close(pidfd)


def test_a_mark_is_heard_only_by_a_supervisor() -> None:
    assert mark(1) is None

    def function() -> None:
        assert mark(7) == 3

    with fork(GETSID, function) as target:
        call = received(target)
        assert (call.name, call.arguments[2]) == ("close_range", 7)
        call.reply(3)
        assert target.wait() == 0
