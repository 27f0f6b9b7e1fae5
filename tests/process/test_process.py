"""A Process owns its pidfd, and a child with it: waited for, or killed and reaped, never lost."""

import copy
import errno
import gc
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable

import pytest

import fdproof
from fdproof import process
from fdproof.process import PIPE, Process
from tests.core.child import in_child, refuse
from tests.process.children import CAT, SLEEP, children, is_running, until

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")


def stranger() -> tuple[int, int]:
    """A process that is a grandchild: its pid, and a descriptor whose closing ends its parent."""
    reading, writing = os.pipe()
    ending, end = os.pipe()
    if os.fork() == 0:
        os.close(end)
        child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 9"], {})
        os.write(writing, b"%d\n" % child)
        os.read(ending, 1)
        os.waitpid(child, 0)
        os._exit(0)
    os.close(ending)
    os.close(writing)
    pid = int(os.read(reading, 20))
    os.close(reading)
    return pid, end


def test_wait_has_a_time_limit() -> None:
    with process.spawn(CAT, stdin=PIPE) as child:
        for timeout in (0, 0.01):
            with pytest.raises(TimeoutError, match=f"process {child.pid} has not ended"):
                child.wait(timeout)
        assert child.poll() is None
        assert not child.ended
        child.kill()
        assert child.wait(100) == -signal.SIGKILL
        assert child.ended
    with pytest.raises(ValueError, match="timeout"):
        child.wait(float("nan"))


def test_status_stays_known_after_closing() -> None:
    with process.spawn(["false"]) as child:
        assert child.fileno() >= 0

    assert child.closed
    assert child.returncode == child.poll() == child.wait() == 1
    assert child.ended
    child.kill()
    child.close()
    assert "ended with 1" in repr(child)


def test_leaving_the_block_closes_the_pipes_and_waits() -> None:
    with process.spawn(CAT, stdin=PIPE, stdout=PIPE) as child:
        pass

    assert child.returncode == 0
    assert child.stdin is not None
    assert child.stdin.closed
    assert child.stdout is not None
    assert child.stdout.closed


def test_an_error_in_the_block_kills() -> None:
    with pytest.raises(LookupError), process.spawn(SLEEP) as child:
        raise LookupError

    assert child.returncode == -signal.SIGKILL


def test_a_closed_process_says_so() -> None:
    child = process.spawn(SLEEP)
    child.close()

    assert child.returncode == -signal.SIGKILL
    with pytest.raises(fdproof.ClosedError):
        child.fileno()
    with pytest.raises(fdproof.ClosedError), child:
        pass


def test_a_dropped_child_is_killed_with_a_warning() -> None:
    def dropped() -> None:
        process.spawn(SLEEP)
        gc.collect()

    with pytest.warns(ResourceWarning, match=r"process \d+ was still running"):
        dropped()

    assert children() == set()


def test_a_dropped_child_that_has_ended_is_reaped_quietly() -> None:
    def dropped() -> None:
        child = process.spawn(["true"])
        until(lambda: child.ended)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dropped()
        gc.collect()

    assert children() == set()


def test_a_dropped_child_that_was_ended_leaves_quietly() -> None:
    def dropped() -> None:
        process.spawn(SLEEP).end()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dropped()
        gc.collect()

    assert children() == set()


def test_end_kills_and_reaps() -> None:
    with process.spawn(SLEEP) as child:
        child.end()
        assert child.returncode == -signal.SIGKILL
        assert children() == set()
        child.end()


@pytest.mark.requires_kernel("seccomp notifier")
def test_a_sandbox_without_signals_by_pidfd_keeps_no_child() -> None:
    def check() -> None:
        refuse({"pidfd_send_signal": (errno.ESRCH, None)})
        with pytest.raises(ProcessLookupError), process.spawn(SLEEP) as child:
            child.kill()
        assert child.returncode == -signal.SIGKILL

    in_child(check)


def test_a_detached_child_runs_on() -> None:
    child = process.spawn(CAT, stdin=PIPE)
    with child.detach() as pidfd:
        assert child.closed
        with pytest.raises(fdproof.ClosedError):
            child.wait()
        pid = child.pid
        stdin = child.stdin
        del child
        gc.collect()
        assert is_running(pid)
        assert stdin is not None
        stdin.close()
        result = os.waitid(os.P_PIDFD, pidfd.fileno(), os.WEXITED)
        assert result is not None
        assert result.si_status == 0


def test_a_copy_in_a_forked_child_ends_nothing() -> None:
    with process.spawn(CAT, stdin=PIPE) as child:

        def check() -> None:
            child.close()

        in_child(check)

        assert child.poll() is None


def test_cannot_be_copied() -> None:
    with process.spawn(["true"]) as child:
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            copy.copy(child._child)
        with pytest.raises(TypeError, match="cannot be pickled or copied"):
            pickle.dumps(child)


@pytest.mark.requires_kernel("PIDFD_SIGNAL_PROCESS_GROUP")
def test_signals_reach_their_scope() -> None:
    with process.spawn(SLEEP, process_group=0) as leader:
        with process.spawn(SLEEP, process_group=leader.pid) as member:
            leader.send_signal(signal.SIGTERM, "process_group")
            assert leader.wait() == member.wait() == -signal.SIGTERM
    with process.spawn(SLEEP) as child:
        child.send_signal(signal.SIGUSR1, "thread")
        assert child.wait() == -signal.SIGUSR1
    with process.spawn(SLEEP) as child:
        child.terminate()
        assert child.wait() == -signal.SIGTERM
        child.terminate()
    with pytest.raises(ValueError, match="scope: is one of 'process', 'thread'"):
        child.send_signal(signal.SIGTERM, "session")  # type: ignore[arg-type]


def test_a_signal_that_does_not_exist() -> None:
    with process.spawn(CAT, stdin=PIPE) as child:
        with pytest.raises(OSError, match="Invalid argument"):
            child.send_signal(1000)


def test_a_process_that_may_not_be_signalled() -> None:
    with process.spawn(CAT, stdin=PIPE) as child:

        def check() -> None:
            if os.geteuid() != 0:
                return
            os.setresuid(65534, 65534, 65534)
            with Process.open(child.pid) as other, pytest.raises(PermissionError):
                other.terminate()

        in_child(check)


def test_many_threads_wait_for_one_child() -> None:
    with process.spawn(CAT, stdin=PIPE) as child:
        seen: list[int] = []
        threads = [threading.Thread(target=lambda: seen.append(child.wait())) for _ in range(8)]
        for thread in threads:
            thread.start()
        child.terminate()
        for thread in threads:
            thread.join()

    assert seen == [-signal.SIGTERM] * 8


def test_waiting_lets_signal_handlers_run() -> None:
    def handler(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGUSR1, handler)
    main = threading.get_ident()
    try:
        with process.spawn(CAT, stdin=PIPE) as child:
            timer = threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGUSR1))
            timer.start()
            with pytest.raises(InterruptedError):
                child.wait()
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.requires_kernel("PIDFD_INFO_EXIT")
def test_a_status_that_somebody_else_took_is_still_known() -> None:
    for wait in (Process.wait, Process.poll):
        with process.spawn(["/bin/sh", "-c", "exit 5"]) as child:
            os.waitpid(child.pid, 0)
            assert wait(child) == 5


@pytest.mark.requires_kernel("seccomp notifier")
def test_a_status_that_somebody_else_took_is_lost_on_older_kernels() -> None:
    def check() -> None:
        refuse({"ioctl": (errno.ENOTTY, None)})
        child = process.spawn(["true"])
        os.waitpid(child.pid, 0)
        with pytest.raises(ChildProcessError, match="reaped by somebody else"):
            child.wait()
        child.close()
        pid, end = stranger()
        with Process.open(pid) as other:
            for wait in (Process.wait, Process.poll):
                with pytest.raises(fdproof.UnsupportedError, match=r"6\.15"):
                    wait(other)
            until(lambda: other.ended)
        os.close(end)
        os.wait()

    in_child(check)


@pytest.mark.requires_kernel("PIDFD_INFO_EXIT")
def test_status_of_somebody_elses_process() -> None:
    pid, end = stranger()
    with Process.open(pid) as other:
        assert not other.owned
        until(lambda: other.ended)
        assert other.poll() is None
        with pytest.raises(TimeoutError):
            other.wait(0.01)
        timer = threading.Timer(0.02, os.close, (end,))
        timer.start()
        assert other.wait() == 9
        timer.join()
    os.waitpid(-1, 0)


def test_others_are_never_killed() -> None:
    child = os.posix_spawn("/bin/sleep", SLEEP, {})
    with Process.open(child):
        pass
    with pytest.warns(ResourceWarning, match="unclosed descriptor"):
        Process.open(child)
    with pytest.raises(LookupError), Process.open(child):
        raise LookupError

    assert is_running(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_open_reaps_an_own_child() -> None:
    pid = os.posix_spawn("/bin/false", ["false"], {})
    with Process.open(pid) as child:
        assert child.wait() == 1


def test_open_says_what_is_wrong() -> None:
    child = process.spawn(["true"])
    child.wait()
    child.close()
    with pytest.raises(ProcessLookupError, match=f"there is no process {child.pid}"):
        Process.open(child.pid)
    with pytest.raises(ValueError, match="pid"):
        Process.open(0)

    ready = threading.Event()
    done = threading.Event()
    numbers: list[int] = []

    def thread() -> None:
        numbers.append(threading.get_native_id())
        ready.set()
        done.wait()

    running = threading.Thread(target=thread)
    running.start()
    ready.wait()
    with pytest.raises(ProcessLookupError, match=f"a thread of process {os.getpid()}"):
        Process.open(numbers[0])
    done.set()
    running.join()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSYS, fdproof.UnsupportedError),
        (errno.EPERM, fdproof.UnsupportedError),
        (errno.EMFILE, OSError),
        (errno.ENOMEM, OSError),
        (errno.ESRCH, ProcessLookupError),
        (errno.EINVAL, ProcessLookupError),
    ],
)
@pytest.mark.requires_kernel("seccomp notifier")
def test_absent_refused_gone(number: int, kind: type[OSError]) -> None:
    def check() -> None:
        refuse({"pidfd_open": (number, None)})
        with pytest.raises(kind) as caught:
            Process.current()
        assert type(caught.value) is kind, caught.value

    in_child(check)


def test_current_and_from_pidfd() -> None:
    with Process.current() as me, process.spawn(CAT, stdin=PIPE) as child:
        assert me.pid == os.getpid()
        pidfd = fdproof.pidfd(child.pid)
        with Process.from_pidfd(pidfd) as same:
            assert pidfd.closed
            assert same.pid == child.pid
            assert not same.owned
    with fdproof.memfd("none") as none, pytest.raises(ValueError, match="is not a pidfd"):
        Process.from_pidfd(none)
    with process.spawn(["true"]) as child:
        with fdproof.pidfd(child.pid) as late:
            child.wait()
            with pytest.raises(ProcessLookupError):
                Process.from_pidfd(late)
            assert not late.closed


def test_poll_and_wait_agree_in_many_threads() -> None:
    def work(wait: Callable[[Process], int | None]) -> None:
        while wait(child) is None:
            time.sleep(0)

    for _ in range(20):
        with process.spawn(["true"]) as child:
            threads = [
                threading.Thread(target=work, args=(one,))
                for one in (Process.poll, Process.wait) * 2
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert child.returncode == 0
