"""A signal by pidfd never reaches the process that got the same number; one by pid does."""

import os
import signal
from pathlib import Path

import pytest

from fdproof import process
from fdproof.process import PIPE, Process
from tests.core.child import in_child
from tests.process.children import CAT, CLONE_NEWPID, CLONE_NEWUSER, unshare

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")

TIMES = int(os.environ.get("FDPROOF_REUSES", "1000"))
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def in_own_pid_namespace(check: object, flags: int) -> None:
    assert callable(check)

    def outer() -> None:
        if not unshare(flags):
            pytest.skip("no pid namespace of our own can be made here")
        # The first one in a namespace is its init: its end ends the namespace.
        in_child(check)

    in_child(outer)


def signals_after_reuse(times: int) -> None:
    # Signals that init has no handler for are not delivered to it, so a stray one would go unseen.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with process.spawn(CAT, stdin=PIPE) as first:
        number = first.pid
    for _ in range(times):
        LAST_PID.write_text(str(number - 1))
        old = process.spawn(["true"])
        assert old.pid == number
        with Process.open(number) as observer:
            old.wait()
            LAST_PID.write_text(str(number - 1))
            with old, process.spawn(CAT, stdin=PIPE) as newcomer:
                assert newcomer.pid == number
                for one in (old, observer):
                    one.terminate()
                    one.kill()
                    one.send_signal(signal.SIGTERM)
                    assert one.kill_tree() == 0
                for one in (old, observer):
                    with pytest.raises(ProcessLookupError):
                        signal.pidfd_send_signal(one.fileno(), signal.SIGKILL)
                assert newcomer.poll() is None
                assert not newcomer.same_process(old)
                # By its number it is hit.
                os.kill(old.pid, signal.SIGTERM)
                assert newcomer.wait() == -signal.SIGTERM


@pytest.mark.root
@pytest.mark.requires_kernel("pidfs")
@pytest.mark.timeout(300)
def test_as_root() -> None:
    in_own_pid_namespace(lambda: signals_after_reuse(TIMES), CLONE_NEWPID)


@pytest.mark.requires_kernel("pidfs", "user namespaces")
def test_as_anybody() -> None:
    in_own_pid_namespace(lambda: signals_after_reuse(TIMES // 10), CLONE_NEWUSER | CLONE_NEWPID)
