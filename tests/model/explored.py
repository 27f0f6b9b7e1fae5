"""Programs and scenes that are explored."""

from collections.abc import Callable

from fdproof.model import Kernel, Task

__all__ = ["THREAD", "careful", "careless", "quietly", "three_files", "two_threads"]

THREAD = 0x100 | 0x400 | 0x800 | 0x10000
"""CLONE_VM, CLONE_FILES, CLONE_SIGHAND and CLONE_THREAD."""


def careless(task: Task) -> None:
    first = task.memfd_create("first")
    second = task.memfd_create("second")
    task.close(second)
    task.close(first)


def careful(task: Task) -> None:
    first = task.memfd_create("first")
    try:
        task.close(task.memfd_create("second"))
    finally:
        task.close(first)


def two_threads() -> list[Task]:
    """Two threads of a process with one file, at 0."""
    task = Kernel().spawn()
    task.memfd_create("shared")
    return [task, task.clone(THREAD)]


def three_files() -> list[Task]:
    """Two threads of a process with files at 0, 1 and 2."""
    first, second = two_threads()
    first.memfd_create("1")
    first.memfd_create("2")
    return [first, second]


def quietly(call: Callable[..., object], *arguments: object) -> None:
    try:
        call(*arguments)
    except OSError:
        pass
