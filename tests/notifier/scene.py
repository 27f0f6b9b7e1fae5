"""What tests of supervised processes wait for and look at: no sleeping, no guessing."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fdproof.notifier import Notification, Target
from fdproof.notifier._libseccomp import name_of

PATIENCE = 30.0


def until(condition: Callable[[], object]) -> None:
    """Wait for something that surely comes; a test that waits longer than that has failed."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        os.sched_yield()


def status(task: int, field: str) -> str:
    """A field of /proc/TASK/status."""
    lines = Path(f"/proc/{task}/status").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{field}:"))


def signals(task: int, field: str) -> set[int]:
    """The signals of a mask in /proc/TASK/status."""
    bits = int(status(task, field), 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}


def in_call(task: int, *names: str) -> bool:
    """Whether a thread of this process waits inside one of these system calls."""
    number = Path(f"/proc/self/task/{task}/syscall").read_text().split()[0]
    return number.isdigit() and name_of(int(number)) in names


def ended(pidfd: int) -> bool:
    """Whether the process behind a pidfd is gone, reaped or not."""
    fields = Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines()
    pid = next(int(line.split()[1]) for line in fields if line.startswith("Pid:"))
    return pid == -1 or status(pid, "State").startswith("Z")


def received(target: Target) -> Notification:
    """The next call, which must come."""
    notification = target.listener.receive(PATIENCE)
    assert notification is not None
    return notification


def resumed(target: Target) -> list[str]:
    """Let everything run to its end; returns the names of the calls."""
    names = []
    for notification in target.listener:
        names.append(notification.name)
        notification.resume()
    return names


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A raw pipe whose ends are still closed at the end, if the test has not."""
    ends = os.pipe()
    identities = [(os.fstat(end).st_dev, os.fstat(end).st_ino) for end in ends]
    try:
        yield ends
    finally:
        for end, identity in zip(ends, identities, strict=True):
            try:
                found = os.fstat(end)
                if (found.st_dev, found.st_ino) == identity:
                    os.close(end)
            except OSError:
                pass  # closed by the test
