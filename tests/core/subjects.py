"""The tables that one suite runs over: what a test does to each, in the same words."""

import os
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import fdproof
from fdproof import Descriptor, own_table
from tests.core import own_table as kernel
from tests.core.memory_table import RESERVED, MemoryTable


class Subject(Protocol):
    """One table under test."""

    table: Any

    def file(self) -> Any:
        """Build a new file."""

    def state(self) -> Any:
        """Everything that a failed operation must leave as it was."""

    def identity(self, published: Any) -> object:
        """Which file a published descriptor refers to."""

    def number(self, published: Any) -> int: ...

    def close_on_exec(self, published: Any) -> bool: ...

    def held(self, number: int) -> bool:
        """Whether ``number`` is taken, but nothing can be done with it."""

    def lowest_free(self, start: int = 0) -> int: ...

    def steal(self, number: int) -> None:
        """Close a number behind its owner's back."""

    def close(self, published: Any) -> None: ...


class Own:
    """This process's table."""

    table = own_table

    def file(self) -> Descriptor:
        return fdproof.memfd("built")

    def state(self) -> object:
        return kernel.table()

    def identity(self, published: Descriptor) -> object:
        status = os.fstat(published.fileno())
        return status.st_dev, status.st_ino

    def number(self, published: Descriptor) -> int:
        return published.fileno()

    def close_on_exec(self, published: Descriptor) -> bool:
        return not published.inheritable

    def held(self, number: int) -> bool:
        try:
            os.read(number, 1)
        except OSError:
            return kernel.entry(number) is not None
        return False

    def lowest_free(self, start: int = 0) -> int:
        return kernel.lowest_free(start)

    def steal(self, number: int) -> None:
        os.close(number)

    def close(self, published: Descriptor) -> None:
        published.close()


class Memory:
    """The table of ``memory_table``."""

    def __init__(self) -> None:
        self.table = MemoryTable()
        self.table.slots.update({0: "in", 1: "out", 2: "err", 5: "gap"})
        self._names: Iterator[int] = iter(range(1_000_000))

    def file(self) -> str:
        return f"file {next(self._names)}"

    def state(self) -> object:
        return dict(self.table.slots), list(self.table.unpublished)

    def identity(self, published: int) -> object:
        return self.table.slots[published]

    def number(self, published: int) -> int:
        return published

    def close_on_exec(self, published: int) -> bool:
        return self.table.close_on_exec[published]

    def held(self, number: int) -> bool:
        return self.table.slots.get(number) == RESERVED

    def lowest_free(self, start: int = 0) -> int:
        return next(number for number in range(start, 1000) if number not in self.table.slots)

    def steal(self, number: int) -> None:
        del self.table.slots[number]

    def close(self, published: int) -> None:
        self.table.close(published)


SUBJECTS: dict[str, Callable[[], Subject]] = {"own": Own, "memory": Memory}
