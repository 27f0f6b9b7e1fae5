"""A table that is no table of any process: the patterns must not notice.

Its files are strings, its descriptors plain numbers, and it is naive on purpose.
"""

import errno
import os
from collections.abc import Sequence
from typing import Any

from fdproof import DescriptorFlags, Slot, StateError

RESERVED = "(reserved)"


class MemorySlot:
    """A reserved place of a MemoryTable."""

    def __init__(self, table: "MemoryTable", number: int, flags: DescriptorFlags) -> None:
        self.number: int | None = number
        self._table = table
        self._flags = flags

    def make_room(self) -> None:
        """Files have no numbers here before they are installed."""

    def install(self, file: str) -> int:
        if self.number is None or self._table.slots.get(self.number) != RESERVED:
            raise StateError("taken from its reservation")
        number, self.number = self.number, None
        self._table.slots[number] = file
        self._table.close_on_exec[number] = self._flags is DescriptorFlags.CLOEXEC
        self._table.unpublished.remove(file)
        return number

    def cancel(self) -> None:
        number, self.number = self.number, None
        if number is not None and self._table.slots.get(number) == RESERVED:
            del self._table.slots[number]

    def __del__(self) -> None:
        self.cancel()


class MemoryTable:
    """Fixed size, lowest free number first."""

    def __init__(self, size: int = 64) -> None:
        self.size = size
        self.slots: dict[int, str] = {}
        self.close_on_exec: dict[int, bool] = {}
        self.unpublished: list[str] = []

    def reserve(self, *, at: int | None, at_least: int, flags: DescriptorFlags) -> MemorySlot:
        wanted = range(at_least, self.size) if at is None else [at]
        free = [number for number in wanted if number not in self.slots]
        if not free:
            number = errno.EMFILE if at is None else errno.EBUSY
            raise OSError(number, os.strerror(number))
        self.slots[free[0]] = RESERVED
        return MemorySlot(self, free[0], flags)

    def adopt(self, built: Any) -> str:
        if not isinstance(built, str):
            raise TypeError(f"{built!r} is no file of this table")
        self.unpublished.append(built)
        return built

    def discard(self, file: str) -> None:
        if file in self.unpublished:
            self.unpublished.remove(file)

    def install_all(self, slots: Sequence[Slot[str, int]], files: Sequence[str]) -> list[int]:
        for slot in slots:
            if slot.number is None or self.slots.get(slot.number) != RESERVED:
                raise StateError("taken from its reservation")
        return [slot.install(file) for slot, file in zip(slots, files, strict=True)]

    def receive(self, file: Any, *, at: int | None, at_least: int, flags: DescriptorFlags) -> int:
        slot = self.reserve(at=at, at_least=at_least, flags=flags)
        return slot.install(self.adopt(file))

    def close(self, number: int) -> None:
        del self.slots[number]
