"""What the tests of processes share: programs to run, and a table as the child sees it."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fdproof import process

CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36

# Ends when its standard input does, so that no test leaves one running.
CAT = ["cat"]
SLEEP = ["sleep", "1000"]

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> bool:
    """unshare(2), which ``os`` has only from Python 3.12 on."""
    return int(_libc.unshare(flags)) == 0


_TELL_TABLE = """
import os, sys
lines = []
for name in os.listdir("/proc/self/fd"):
    try:
        lines.append(name + " " + os.readlink("/proc/self/fd/" + name).removesuffix(" (deleted)"))
    except FileNotFoundError:
        pass  # the listing's own descriptor
with open(sys.argv[1], "w") as file:
    file.write("\\n".join(lines))
"""


def prctl(option: int, argument: int = 0) -> int:
    """prctl(2), for this process."""
    return int(_libc.prctl(option, argument, 0, 0, 0))


def table_in_child(place: Path, **options: Any) -> dict[int, str]:
    """The table of a program that was spawned: what each number refers to, told from inside.

    Written to a file, because any of the standard streams may be under test.
    """
    argv = [sys.executable, "-I", "-S", "-c", _TELL_TABLE, str(place)]
    with process.spawn(argv, **options) as child:
        assert child.wait() == 0
    table = {}
    for line in place.read_text().splitlines():
        number, _, target = line.partition(" ")
        table[int(number)] = target
    return table


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens soon; giving up is for what hangs, in children too."""
    for _ in range(30_000):
        if condition():
            return
        time.sleep(0.001)
    raise AssertionError("it never happened")


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def reap_all() -> None:
    """Reap whatever this process, a subreaper, has inherited."""
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


def children() -> set[int]:
    """The children of this process, unreaped ones included."""
    while True:
        try:
            return {
                int(child)
                for task in os.listdir("/proc/self/task")
                for child in Path(f"/proc/self/task/{task}/children").read_text().split()
            }
        except (FileNotFoundError, ProcessLookupError):
            pass  # a thread ended meanwhile; its children are another's now


def signal_mask_of(pid: int, which: str) -> set[int]:
    """A signal mask of a process, ``SigBlk``, ``SigIgn`` or ``SigCgt``, as numbers."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
        mask = next(int(line.split()[1], 16) for line in lines if line.startswith(f"{which}:"))
    return {number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1}
