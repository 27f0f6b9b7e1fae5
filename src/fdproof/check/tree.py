"""The process tree of a run: names of its tasks that hold from run to run, and its end."""

import contextlib
import os
import signal

__all__ = ["Tree", "kill_descendants", "own_children"]


class Tree:
    """Logical names for the tasks of a run.

    The root is "0", its first child "0.1", the first thread of that child "0.1.t1". An orphan is a child
    of "?". Names get small numbers that stay the same over all runs.
    """

    def __init__(self) -> None:
        self._indexes: dict[str, int] = {}
        self._names: list[str] = []
        self._tasks: dict[int, str] = {}
        self._children: dict[str, int] = {}

    def begin(self, root: int) -> int:
        """Start a run whose root has this pid; returns the root's index."""
        self._tasks = {root: "0"}
        self._children = {}
        return self.index("0")

    def begin_round(self) -> None:
        """Number children and threads from the start again, for another round in the same process."""
        self._children = {}

    def index(self, name: str) -> int:
        """Return the small number of a name."""
        if name not in self._indexes:
            self._indexes[name] = len(self._names)
            self._names.append(name)
        return self._indexes[name]

    def name(self, index: int) -> str:
        """Return the name behind a small number."""
        return self._names[index]

    def place(self, task: int) -> str:
        """Find where an unknown task stands in the tree, from /proc.

        Brothers and sisters that were born before it are named before it, although they have not been
        heard of yet: who speaks first differs from run to run.
        """
        if task not in self._tasks:
            group, parent = _status(task)
            if group != task and group in self._tasks:
                prefix, family = f"{self._tasks[group]}.t", _threads(group)
            else:
                prefix, family = f"{self._tasks.get(parent, '?')}.", _born_to(parent)
            for member in (*family, task):
                if member not in self._tasks:
                    self._tasks[member] = self._next(prefix)
                if member == task:
                    break
        return self._tasks[task]

    def is_root(self, task: int, root: int) -> bool:
        """Tell whether a task is the root process or one of its threads."""
        return task == root or _status(task)[0] == root

    def name_of(self, task: int) -> str:
        """Return the name of a task that was placed before."""
        return self._tasks.get(task, "?")

    def _next(self, prefix: str) -> str:
        self._children[prefix] = self._children.get(prefix, 0) + 1
        return f"{prefix}{self._children[prefix]}"


def _status(task: int) -> tuple[int, int]:
    """Return the process that a task belongs to, and that process's parent; zeros if it is gone."""
    group = parent = 0
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{task}/status", encoding="utf-8", errors="replace") as lines,
    ):
        for line in lines:
            if line.startswith("Tgid:"):
                group = int(line[5:])
            elif line.startswith("PPid:"):
                parent = int(line[5:])
                break
    return group, parent


def _threads(group: int) -> list[int]:
    """Return the threads of a process, in the order of their numbers: mostly that of their birth."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{group}/task") if int(name) != group)
    except FileNotFoundError:
        return []


def _born_to(parent: int) -> list[int]:
    """Return the children of a process in the order of their birth, as far as they are not reaped.

    Kernel: proc(5), /proc/PID/task/TID/children (3.5, with CONFIG_PROC_CHILDREN); empty without.
    """
    children: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                children.extend(map(int, file.read().split()))
    return children


def own_children() -> frozenset[int]:
    """Return the pids of this process's children, ended ones included."""
    me = os.getpid()
    names = filter(str.isdigit, os.listdir("/proc"))
    return frozenset(int(name) for name in names if _status(int(name))[1] == me)


def kill_descendants(keep: frozenset[int] = frozenset()) -> int:
    """Kill and reap every descendant of this process, which must be their subreaper.

    Only direct children are signalled: they are unreaped, so their numbers still mean them. The
    children of each come here when it dies, and have their turn.

    Args:
        keep: children to leave alone, and what is below them.

    Returns:
        How many were killed.
    """
    killed = 0
    while _reap_ended() and (children := own_children() - keep):
        for child in children:
            # Another thread of this process may have waited for it meanwhile.
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitid(os.P_PID, child, os.WEXITED)
                killed += 1
    return killed


def _reap_ended() -> bool:
    """Reap what has ended; True if children are left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True
