"""The listener delivers calls, stops when it is told, and strands nobody."""

import errno
import fcntl
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

import pytest

import fdproof
from fdproof import ClosedError, StaleError, StateError
from fdproof.notifier import Filter, Listener, Notification, Target, fork, spawn
from tests.kernel_features import SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
from tests.notifier.scene import in_call, pipe, received, resumed, signals, status, until

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

GETSID = Filter(["getsid"])


def failing_with(number: int) -> Callable[[], None]:
    """A target in which getsid must fail so."""

    def check() -> None:
        with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
            os.getsid(0)

    return check


def waiting_on(reading: int) -> Callable[[], None]:
    """A target that makes no call until the pipe ends."""

    def function() -> None:
        os.read(reading, 1)

    return function


def test_a_call_tells_what_it_is() -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        call = received(target)
        assert (call.name, call.pid, call.arguments[0]) == ("getsid", target.pid, 0)
        assert call.id
        assert call.instruction_pointer
        assert call.valid
        assert not call.answered
        assert repr(call) == (
            f"<fdproof.notifier.Notification getsid of task {target.pid}, waiting>"
        )
        call.resume()
        assert call.answered
        assert not call.valid
        assert repr(call).endswith("answered>")
        assert target.listener.receive() is None
        assert target.wait() == 0


def test_nobody_else_makes_a_notification() -> None:
    with pytest.raises(TypeError, match=r"comes from Listener\.receive"):
        Notification()


def test_resume_runs_the_call() -> None:
    expected = os.getsid(0)

    def check() -> None:
        assert os.getsid(0) == expected

    with fork(GETSID, check) as target:
        resumed(target)
        assert target.wait() == 0


@pytest.mark.parametrize("number", [1, errno.EMFILE, 4095])
def test_fail_gives_the_errno(number: int) -> None:
    with fork(GETSID, failing_with(number)) as target:
        received(target).fail(number)
        assert target.wait() == 0


@pytest.mark.parametrize("number", [0, -1, 4096])
def test_what_is_no_errno_is_refused_and_the_call_still_waits(number: int) -> None:
    with fork(GETSID, failing_with(errno.EIO)) as target:
        call = received(target)
        with pytest.raises(ValueError, match=f"^error: {number} is not an errno"):
            call.fail(number)
        assert call.valid
        call.fail(errno.EIO)
        assert target.wait() == 0


@pytest.mark.parametrize("value", [0, 1, 4711])
def test_reply_gives_the_value(value: int) -> None:
    def check() -> None:
        assert os.getsid(0) == value

    with fork(GETSID, check) as target:
        received(target).reply(value)
        assert target.wait() == 0


ANSWERS: dict[str, Callable[[Notification], None]] = {
    "resume": lambda call: call.resume(),
    "fail": lambda call: call.fail(errno.EIO),
    "reply": lambda call: call.reply(1),
}


@pytest.mark.parametrize("second", ANSWERS)
@pytest.mark.parametrize("first", ANSWERS)
def test_a_call_gets_one_answer(first: str, second: str) -> None:
    with pipe() as (reading, writing):

        def function() -> None:
            try:
                os.getsid(0)
            except OSError:
                pass
            os.read(reading, 1)

        with fork(GETSID, function) as target:
            call = received(target)
            ANSWERS[first](call)
            with pytest.raises(StateError, match=r"getsid\) was answered before"):
                ANSWERS[second](call)
            os.write(writing, b".")
            assert target.wait() == 0


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_call_of_a_dead_target_is_stale(answer: str) -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        call = received(target)
        target.kill()
        assert target.wait() == -signal.SIGKILL
        assert not call.valid
        with pytest.raises(StaleError, match=f"getsid of task {target.pid}.*gone"):
            ANSWERS[answer](call)
        with pytest.raises(StateError):
            ANSWERS[answer](call)


def test_receive_gives_up_in_time() -> None:
    with pipe() as (reading, writing), fork(GETSID, waiting_on(reading)) as target:
        for timeout in (0, 0.001, -1):
            with pytest.raises(TimeoutError, match="no supervised call"):
                target.listener.receive(timeout)
        os.write(writing, b".")
        assert target.listener.receive() is None


def test_a_call_that_waits_needs_no_time() -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        first = received(target)
        first.resume()
        assert target.listener.receive() is None
        assert target.listener.receive(0) is None


def stopped_while_it_waits(target: Target, stop: Callable[[], object]) -> None:
    """Let another thread stop the listener once this one waits in receive()."""
    me = threading.get_native_id()

    def when_it_waits() -> None:
        until(lambda: in_call(me, "poll", "ppoll"))
        stop()

    thread = threading.Thread(target=when_it_waits)
    thread.start()
    try:
        assert target.listener.receive() is None
    finally:
        thread.join()


def test_stop_from_another_thread() -> None:
    with pipe() as (reading, _), fork(GETSID, waiting_on(reading)) as target:
        stopped_while_it_waits(target, target.listener.stop)
        assert target.listener.receive() is None
        assert target.listener.receive(0) is None
        assert list(target.listener) == []


def test_stop_from_a_signal_handler() -> None:
    with pipe() as (reading, _), fork(GETSID, waiting_on(reading)) as target:

        def handler(number: int, frame: FrameType | None) -> None:
            target.listener.stop()

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            main = threading.main_thread().ident
            assert main is not None
            stopped_while_it_waits(target, lambda: signal.pthread_kill(main, signal.SIGUSR1))
        finally:
            signal.signal(signal.SIGUSR1, before)


def test_a_signal_handler_may_raise_out_of_receive() -> None:
    with pipe() as (reading, _), fork(GETSID, waiting_on(reading)) as target:
        main = threading.main_thread().ident
        assert main is not None
        with pytest.raises(KeyboardInterrupt):
            stopped_while_it_waits(target, lambda: signal.pthread_kill(main, signal.SIGINT))


def test_stop_comes_before_a_call_that_waits() -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        until(lambda: bool(select_readable(target.listener.fileno())))
        target.listener.stop()
        assert target.listener.receive() is None


def select_readable(number: int) -> list[int]:
    return select.select([number], [], [], 0)[0]


def test_stop_after_close_is_quiet() -> None:
    with fork(GETSID, lambda: None) as target:
        target.close()
        target.listener.stop()


def test_a_closed_listener_lets_calls_fail_with_enosys() -> None:
    with fork(GETSID, failing_with(errno.ENOSYS)) as target:
        call = received(target)
        target.listener.close()
        target.listener.close()
        with pytest.raises(ClosedError):
            target.listener.receive()
        with pytest.raises(ClosedError):
            call.resume()
        assert target.wait() == 0


def test_a_listener_is_a_context_manager() -> None:
    with fork(GETSID, lambda: None) as target:
        with target.listener as listener:
            assert listener.fileno() == listener.descriptor.fileno()
            assert "Listener" in repr(listener)
        with pytest.raises(ClosedError):
            listener.fileno()
        with pytest.raises(ClosedError):
            listener.__enter__()


def test_a_listener_needs_an_open_descriptor() -> None:
    closed = fdproof.memfd("x")
    closed.close()
    with pytest.raises(ClosedError):
        Listener(closed)
    with pytest.raises(TypeError):
        Listener(None)  # type: ignore[arg-type]


def disturb(target: Target) -> None:
    """Send a signal that does not kill, and wait until it has had its effect."""
    os.kill(target.pid, signal.SIGUSR1)
    # Uninterruptible but for death (D): the flag at work. Otherwise the call comes a second time.
    until(
        lambda: (
            status(target.pid, "State").startswith("D") or select_readable(target.listener.fileno())
        )
    )


@pytest.mark.requires_kernel("WAIT_KILLABLE_RECV")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_received_call_is_not_interrupted(start: str) -> None:
    """A signal that does not kill waits until the answer: the call returns once."""

    def function() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.getsid(0)

    script = "import os, signal; signal.signal(signal.SIGUSR1, lambda *_: 0); os.getsid(0)"
    with (
        fork(GETSID, function)
        if start == "fork"
        else spawn(GETSID, [sys.executable, "-ISc", script])
    ) as target:
        call = received(target)
        disturb(target)
        assert call.valid
        assert signal.SIGUSR1 in signals(target.pid, "ShdPnd")
        call.resume()
        assert target.listener.receive() is None
        assert target.wait() == 0


@pytest.mark.requires_kernel("WAIT_KILLABLE_RECV")
def test_a_received_call_can_be_killed() -> None:
    def function() -> None:
        signal.signal(signal.SIGUSR1, lambda *_: None)
        os.getsid(0)

    with fork(GETSID, function) as target:
        call = received(target)
        disturb(target)
        target.kill()
        assert target.wait() == -signal.SIGKILL
        assert not call.valid


@pytest.mark.requires_kernel("SYNC_WAKE_UP")
def test_the_kernel_takes_the_wake_up_flag() -> None:
    with fork(GETSID, lambda: os.getsid(0)) as target:
        request = (SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
        assert fcntl.ioctl(target.listener.fileno(), *request) == 0
        assert resumed(target) == ["getsid"]
