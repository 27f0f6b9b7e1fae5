"""A snapshot of a process's table, read from /proc: what is open, and what it is."""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fdproof import _syscalls

__all__ = ["Entry", "describe", "entry", "numbers", "same_file", "snapshot"]

_KCMP_FILE = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One open slot of a table.

    ``target`` is what /proc calls it ("/etc/passwd", "pipe:[4711]"); ``flags`` are the file's status
    flags; ``mode`` is the file type and permissions, 0 where they cannot be read.
    """

    number: int
    target: str
    flags: int
    close_on_exec: bool
    mode: int = 0

    @property
    def what(self) -> str:
        """What it is, in words that do not change from one run to the next."""
        return describe(self.target, self.mode, self.flags)


def numbers(pid: int) -> tuple[int, ...]:
    """Return the numbers that are open in a process's table, ascending.

    Args:
        pid: the process, or a thread.

    Raises:
        OSError: ESRCH or ENOENT, it is gone; EACCES, it belongs to somebody else.
    """
    directory = f"/proc/{pid}/fd"
    found = sorted(map(int, os.listdir(directory)))
    if pid == os.getpid():
        # The one that listed the directory is gone again.
        return tuple(number for number in found if os.path.lexists(f"{directory}/{number}"))
    return tuple(found)


def entry(pid: int, number: int) -> Entry | None:
    """Return one slot of a process's table, or None if it is empty.

    Args:
        pid: the process, or a thread.
        number: the descriptor.
    """
    path = f"/proc/{pid}/fd/{number}"
    try:
        target = os.readlink(path)
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii", errors="replace") as info:
            flags = next(int(line[6:], 8) for line in info if line.startswith("flags:"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = 0
    return Entry(number, target, flags & ~os.O_CLOEXEC, bool(flags & os.O_CLOEXEC), mode)


def snapshot(pid: int, only: Iterable[int] | None = None) -> dict[int, Entry]:
    """Return the table of a process: numbers and what is behind them.

    Exact when the process stands still (stopped at a supervised call).

    Args:
        pid: the process, or a thread.
        only: the numbers to look at; all by default.

    Raises:
        OSError: ESRCH or ENOENT, it is gone; EACCES, it belongs to somebody else.
    """
    entries = (entry(pid, number) for number in (numbers(pid) if only is None else only))
    return {one.number: one for one in entries if one is not None}


def same_file(first: int, second: int, number: int) -> bool | None:
    """Tell whether a number means the same open file in two processes.

    Args:
        first, second: the processes.
        number: open in both.

    Returns:
        None where the kernel does not say (no kcmp, or a policy forbids it).

    Kernel: kcmp(2), KCMP_FILE (3.5).
    """
    try:
        return _syscalls.kcmp(first, second, _KCMP_FILE, number, number) == 0
    except OSError:
        return None


_KINDS: Mapping[str, str] = {
    "socket": "a socket",
    "pipe": "a pipe",
    "anon_inode:[eventfd]": "an eventfd",
    "anon_inode:[eventpoll]": "an epoll instance",
    "anon_inode:[timerfd]": "a timerfd",
    "anon_inode:[signalfd]": "a signalfd",
    "anon_inode:inotify": "an inotify instance",
    "anon_inode:[fanotify]": "a fanotify group",
    "anon_inode:[pidfd]": "a pidfd",
    "anon_inode:[io_uring]": "an io_uring",
    "anon_inode:[userfaultfd]": "a userfaultfd",
    "anon_inode:seccomp notify": "a seccomp listener",
}


def describe(target: str, mode: int, flags: int) -> str:
    """Say what a descriptor refers to, without anything that differs between two runs.

    Args:
        target: as /proc shows it.
        mode: file type and permissions.
        flags: the file's status flags.
    """
    if target in _KINDS:
        return _KINDS[target]
    kind, _, rest = target.partition(":[")
    if rest.endswith("]") and kind in ("socket", "pipe"):
        if kind == "pipe":
            end = "writing" if flags & os.O_ACCMODE == os.O_WRONLY else "reading"
            return f"the {end} end of a pipe"
        return _KINDS[kind]
    if rest.endswith("]") and kind == "pidfd":
        return "a pidfd"
    if target.startswith("/memfd:"):
        return f"the memory file {target[7:].removesuffix(' (deleted)')!r}"
    if target.startswith("anon_inode:"):
        return f"an anonymous file ({target[11:].strip('[]')})"
    way = {os.O_RDONLY: "reading", os.O_WRONLY: "writing", os.O_RDWR: "reading and writing"}
    if flags & os.O_PATH:
        return f"{target}, as a path only"
    if stat.S_ISDIR(mode):
        return f"the directory {target}"
    return f"{target}, open for {way.get(flags & os.O_ACCMODE, 'nothing')}"
