"""End a process with its descendants: stop them so that the tree holds still, then kill it as a whole."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from fdproof._descriptor import Descriptor
from fdproof._errors import UnsupportedError
from fdproof.process import _info
from fdproof.process._child import Child
from fdproof.process._opening import open_pidfd

__all__ = ["kill_tree"]

# Looks at the tree until it must have come to rest; a fork bomb could otherwise keep up for ever.
_ROUNDS = 200
_PAUSE = 0.001


def kill_tree(root: Child) -> int:
    """Kill a process and all its descendants; see ``Process.kill_tree``."""
    with contextlib.ExitStack() as owners:
        found: dict[int, Child] = {root.pid: root}
        try:
            _stop(root)
            for _ in range(_ROUNDS):
                # INVARIANT: looked at before the search: what was still then has made no child since.
                at_rest = all(_is_still(child) for child in found.values())
                new = [child for parent in list(found.values()) for child in _new(parent, found)]
                for child in new:
                    owners.callback(child.close)
                    found[child.pid] = child
                    _stop(child)
                if not new:
                    if at_rest:
                        break
                    # KERNEL: a signal takes effect when the process comes back from the kernel.
                    time.sleep(_PAUSE)
        finally:
            # Also when the search fails: nothing is left standing still.
            killed = _kill(found)
    return killed


def _kill(found: dict[int, Child]) -> int:
    killed = 0
    errors = []
    # The root last: whoever waits for it then finds nothing left of the rest.
    for child in reversed(found.values()):
        try:
            killed += child.signal(signal.SIGKILL, 0)
        except OSError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return killed


def _stop(process: Child) -> None:
    # A descendant may have changed to a user whom this process may not signal: the kill will say so.
    with contextlib.suppress(PermissionError):
        process.signal(signal.SIGSTOP, 0)


def _new(parent: Child, found: dict[int, Child]) -> Iterator[Child]:
    """Open the unknown children of a process; each is verified through its pidfd to be one."""
    for pid in _numbers_of_children(parent.pid):
        if pid in found and _exists(found[pid]):
            continue
        try:
            owner = open_pidfd(pid)
        except ProcessLookupError:
            continue
        with owner:
            # The parent is looked at last: if it is unreaped now, its number meant it all along.
            if _parent_of(owner, pid) == parent.pid and _exists(parent):
                yield Child(pid, owner)


def _exists(process: Child) -> bool:
    """Whether it is unreaped, so that its number means it."""
    try:
        return process.signal(0, 0)
    except PermissionError:
        return True


def _parent_of(owner: Descriptor, pid: int) -> int | None:
    try:
        return _info.info(owner).parent
    except ProcessLookupError:
        return None
    except UnsupportedError:
        parent = _stat(pid)[1]
    try:
        signal.pidfd_send_signal(owner.fileno(), 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    # It was not reaped until after its number was used, so the number meant it.
    return parent


def _numbers_of_children(pid: int) -> list[int]:
    try:
        numbers: list[int] = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="utf-8") as file:
                numbers.extend(map(int, file.read().split()))
        return numbers
    except OSError:
        # No CONFIG_PROC_CHILDREN, or a task ended meanwhile.
        return [
            number
            for number in map(int, filter(str.isdigit, os.listdir("/proc")))
            if _stat(number)[1] == pid
        ]


def _is_still(process: Child) -> bool:
    """Whether it is stopped or has ended, so that it makes no children."""
    return process.ended or _stat(process.pid)[0] in "TtZX"


def _stat(pid: int) -> tuple[str, int]:
    """Return the state and the parent of a process; X and 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # The program's name may contain anything, closing parentheses too.
            state, parent, *_ = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return "X", 0
    return state, int(parent)
