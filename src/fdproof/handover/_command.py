"""Run a service with a store at its side, and start it again with what it has stored."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Literal

from fdproof._creating import eventfd
from fdproof.handover._activation import FIRST, VARIABLES
from fdproof.handover._store import Store
from fdproof.passing._deadline import Deadline
from fdproof.process import Process, spawn

__all__ = ["Restart", "run_with"]

Restart = Literal["never", "on-failure", "always"]

# A service that ends at once is started again later each time, and at the first pause once it lasted.
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_LASTED = 10.0

# As a shell says of a command that it does not find.
_NOT_STARTED = 127


class _Requests:
    """What signals have asked for: to stop, or to start the service again."""

    def __init__(self) -> None:
        self.stop = False
        self.again = False
        self.wake = eventfd(nonblocking=True)

    def __bool__(self) -> bool:
        return self.stop or self.again

    def note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self.again = True
        else:
            self.stop = True
        os.eventfd_write(self.wake.fileno(), 1)


@contextmanager
def _requests() -> Iterator[_Requests]:
    requests = _Requests()
    with requests.wake:
        before = {
            number: signal.signal(number, requests.note)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        try:
            yield requests
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_with(
    store: Store,
    argv: Sequence[str],
    *,
    restart: Restart = "on-failure",
    stop_timeout: float = 10.0,
    tell: Callable[[str], object] = lambda _: None,
) -> int:
    """Run a command until it ends and is not to be started again.

    It has NOTIFY_SOCKET, and at each start what this process's user has stored, as ``listeners`` takes
    it. SIGTERM and SIGINT end it by SIGTERM, and then this call; SIGHUP ends it and starts it again. Only
    in the main thread.

    Args:
        store: served meanwhile.
        argv: the command and its arguments.
        restart: after which ends it is started again: "never", "on-failure" (another status than 0),
            or "always".
        stop_timeout: seconds from SIGTERM to SIGKILL.
        tell: gets a line for people about each start and end.

    Returns:
        The last exit status, 0 to 255, or the negative number of the signal that ended it.

    Raises:
        OSError: it cannot be started, as ``spawn`` says.
    """
    pause = _FIRST_PAUSE
    started = False
    with _requests() as requests:
        while True:
            begun = time.monotonic()
            try:
                with _start(store, argv) as child:
                    started = True
                    tell(f"process {child.pid} started with {_counted(store)}")
                    status = _attend(store, child, requests, stop_timeout)
                tell(f"process {child.pid} ended with {status}")
            except OSError as error:
                # The program may be missing for a moment, while a new version of it is installed.
                if not started:
                    raise
                tell(f"not started: {error}")
                status = _NOT_STARTED
            if requests.stop or not (requests.again or _wanted(restart, status)):
                return status
            if not requests.again:
                if time.monotonic() - begun > _LASTED:
                    pause = _FIRST_PAUSE
                _serve(store, requests, [], pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                if requests.stop:
                    return status
            requests.again = False


def _counted(store: Store) -> str:
    count = len(store.kept(os.getuid()))
    return f"{count} descriptor{'' if count == 1 else 's'}"


def _wanted(restart: Restart, status: int) -> bool:
    return restart == "always" or (restart == "on-failure" and status != 0)


def _start(store: Store, argv: Sequence[str]) -> Process:
    kept = store.kept(os.getuid())
    env = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    env["NOTIFY_SOCKET"] = store.path
    if not kept:
        return spawn(argv, env=env, parent_death_signal=signal.SIGTERM)
    env["LISTEN_FDS"] = str(len(kept))
    env["LISTEN_FDNAMES"] = ":".join(one.name for one in kept)
    return spawn(
        argv,
        env=env,
        files={number: one.file for number, one in enumerate(kept, FIRST)},
        parent_death_signal=signal.SIGTERM,
        pid_variable="LISTEN_PID",
    )


def _attend(store: Store, child: Process, requests: _Requests, stop_timeout: float) -> int:
    """Serve the store until the child has ended, which a request sees to."""
    while not child.ended and not requests:
        _serve(store, requests, [child], None)
    if not child.ended:
        child.terminate()
        deadline = Deadline(stop_timeout, "")
        while not child.ended and deadline.left:
            _serve(store, requests, [child], deadline.left)
        child.kill()
    return child.wait()


def _serve(
    store: Store, requests: _Requests, others: Sequence[Process], seconds: float | None
) -> None:
    """Serve the store until one of the others has ended, a signal has come, or the time is over."""
    deadline = Deadline(seconds, "")
    poller = select.poll()
    for number in (store.fileno(), requests.wake.fileno(), *(one.fileno() for one in others)):
        poller.register(number, select.POLLIN)
    while True:
        left = deadline.left
        # A day at a time: poll(2) counts milliseconds in an int.
        ready = {
            number for number, _ in poller.poll(None if left is None else min(left, 86_400) * 1000)
        }
        if store.fileno() in ready:
            store.handle()
        if requests.wake.fileno() in ready:
            os.eventfd_read(requests.wake.fileno())
        if left == 0 or ready - {store.fileno()}:
            return
