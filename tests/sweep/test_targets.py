"""Starting a target fails cleanly at each of its system calls: what check cannot show of itself.

A process has one listener at most, so that fork() and spawn() cannot run under check. Here each of their
system calls is refused by a plain seccomp filter, with every errno of check's own table; the limit on
descriptors is in tests/notifier/test_start.py.
"""

import errno
import gc
import os
from collections.abc import Callable

import pytest

from fdproof.check import errnos
from fdproof.notifier import Filter, Target, fork, spawn
from tests.core.child import in_child, refuse
from tests.core.own_table import table

pytestmark = pytest.mark.requires_kernel("seccomp notifier", "pidfd_getfd")

GETSID = Filter(["getsid"])

STARTS: dict[str, tuple[Callable[[], Target], tuple[str, ...]]] = {
    "fork": (
        lambda: fork(GETSID, lambda: None),
        ("clone", "seccomp", "pidfd_open", "pidfd_getfd", "eventfd2"),
    ),
    "spawn": (lambda: spawn(GETSID, ["true"]), ("clone", "seccomp", "eventfd2", "execveat")),
    "spawn elsewhere": (lambda: spawn(GETSID, ["true"], directory="/"), ("chdir",)),
}
# Not in the table, because they act on no descriptor.
OTHERS = {
    "chdir": ("EACCES", "ENOENT", "ELOOP", "ENOTDIR"),
    "execveat": ("EACCES", "ENOEXEC", "ENOMEM", "E2BIG", "ETXTBSY", "EMFILE"),
}


def possible(call: str) -> tuple[str, ...]:
    """The errnos of a call as a target's start makes it."""
    if call in OTHERS:
        return OTHERS[call]
    entries = [entry for entry in errnos.CALLS if entry.name == call]
    return tuple(dict.fromkeys(one.name for entry in entries for one in entry.errnos))


FAULTS = [
    pytest.param(start, call, name, id=f"{label}-{call}-{name}")
    for label, (start, calls) in STARTS.items()
    for call in calls
    for name in possible(call)
]


@pytest.mark.parametrize(("start", "call", "name"), FAULTS)
def test_a_start_that_fails_leaves_nothing(
    start: Callable[[], Target], call: str, name: str
) -> None:
    number: int = getattr(errno, name)

    def check() -> None:
        refuse({call: (number, None)})
        before = table()
        with pytest.raises(OSError, match=rf"\[Errno {number}\]"):
            start()
        gc.collect()
        assert table() == before
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)

    in_child(check)


@pytest.mark.parametrize("label", STARTS)
def test_what_only_costs_time_may_fail(label: str) -> None:
    """An older kernel knows no SYNC_WAKE_UP: the target starts all the same."""

    def check() -> None:
        refuse({"ioctl": (errno.EINVAL, None)})
        STARTS[label][0]().close()

    in_child(check)
