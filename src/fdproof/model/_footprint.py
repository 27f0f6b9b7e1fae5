"""What a call touches, and which calls can therefore change places.

Two calls are independent if neither changes what the other one uses: a table with all its slots and its
lowest free number, a file and what is behind it, the tree of names. This is decided right before the call, from the
state that it finds, and on the safe side: a call that is not listed here touches everything.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fdproof.model._kernel import Kernel
from fdproof.model._process import ProcessTable
from fdproof.model._task import Task
from fdproof.model._tree import OrdinaryFile

__all__ = ["EVERYTHING", "Footprint", "footprint", "independent"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a call uses, and what of it it may change.

    They are names and no objects, because they are compared with those of other runs.

    Args:
        used: tables, files and the like, changed or not.
        changed: those that may be other after the call; None for everything there is.
    """

    used: frozenset[str] = frozenset()
    changed: frozenset[str] | None = frozenset()


EVERYTHING = Footprint(changed=None)
_NOTHING = Footprint()
# Openings count files, and may be refused for their number.
_FILES = "files"
_NAMES = "names"

# They say what never changes, or write to the caller's own memory.
_APART = frozenset({"getpid", "copy_to_user"})
# They fill or free slots, and touch no file that another call could know.
_ON_TABLE = frozenset({"dup", "get_unused_fd_flags", "put_unused_fd", "fd_install"})
_MAKING_A_FILE = frozenset({"memfd_create", "eventfd2", "epoll_create1", "pipe2", "socketpair"})
# Their first argument is a descriptor, whose file they may change; the table they only look into.
_ON_FILE = frozenset({"read", "write", "lseek"})
# The file may go with the slot.
_CLOSING = frozenset({"close", "close_fd"})


def independent(one: Footprint, other: Footprint) -> bool:
    """Tell whether two calls have the same effects in either order."""
    if one.changed is None or other.changed is None:
        return False
    return not (one.changed & other.used or other.changed & one.used)


def footprint(
    task: Task, call: str, arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> Footprint:
    """Return what a call would touch if it were made now.

    Args:
        task: whose call it is.
        call: its name, a system call's or an inside function's.
        arguments, options: what it is given.
    """
    kernel, table = task.kernel, task.files
    if kernel.waiting or task.filters or options:
        # Whatever is done may be what somebody waits for; a filter may turn it into another's business;
        # and the arguments that matter are found by their position.
        return EVERYTHING
    # Tables are made and dropped by calls only that touch everything, so that a place stays the same.
    own = f"table {list(kernel.tables).index(table)}" if table in kernel.tables else "no table"
    if call in _APART:
        return _NOTHING
    if call in _ON_TABLE:
        return _changing([own])
    if call in _MAKING_A_FILE:
        return _changing([own, _FILES])
    if call == "anon_inode_getfile":
        return _changing([_FILES])
    if call == "open" and not any(flags & os.O_TRUNC for flags in arguments[1:2]):
        return _changing([own, _FILES, _NAMES])
    if call in _ON_FILE and arguments:
        behind = _behind(kernel, table, arguments[0])
        if behind is not None:
            return Footprint(frozenset([own, *behind]), frozenset(behind))
    if call in _CLOSING and arguments:
        behind = _behind(kernel, table, arguments[0])
        if behind is not None:
            return _changing([own, _FILES, *behind])
    return EVERYTHING


def _changing(touched: Iterable[str]) -> Footprint:
    both = frozenset(touched)
    return Footprint(both, both)


def _behind(kernel: Kernel, table: ProcessTable, number: int) -> list[str] | None:
    """Return the file of a descriptor, empty if there is none; None if others hear of its calls."""
    try:
        file = table.lookup(number)
    except OSError:
        return []
    if not isinstance(file, OrdinaryFile) or file.watchers:
        return None
    same = (
        other.serial
        for other in kernel.files()
        if isinstance(other, OrdinaryFile) and other.inode is file.inode
    )
    # The oldest of the files that share the contents stands for them.
    return [f"file {file.serial}", f"contents of file {min(same)}"]
