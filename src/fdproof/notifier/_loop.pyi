import enum
from collections.abc import Iterable
from typing import Protocol, Self, final

from fdproof._descriptor import Descriptor
from fdproof.notifier._listener import Listener

__all__ = ["CALLS", "Loop", "Stop"]

CALLS: int

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

class Stop(enum.Enum):
    ENDED = 0
    TIMEOUT = 1
    CONTROL = 2
    NEW_TASK = 3
    NEW_PROGRAM = 4
    WATCHED = 5
    FAULT = 6
    POINT = 7

_Arguments = tuple[int, int, int, int, int, int]

@final
class Loop:
    counting: bool
    stepping: bool
    def __new__(
        cls,
        listener: Listener,
        process: Descriptor,
        control: _HasFileno | None,
        watched: Iterable[int],
    ) -> Self: ...
    def add_task(self, tid: int, index: int) -> None: ...
    def starts_program_of(self, tid: int) -> None: ...
    def set_loader(self, low: int, high: int) -> None: ...
    def set_fault(self, index: int, call: int, occurrence: int) -> None: ...
    def reset_counts(self) -> None: ...
    @property
    def pending(self) -> tuple[int, int, _Arguments]: ...
    @property
    def occurrence(self) -> int: ...
    @property
    def calls(self) -> int: ...
    def events(self) -> list[tuple[int, int, int, _Arguments]]: ...
    def resume(self) -> None: ...
    def fail(self, error: int) -> None: ...
    def reply(self, value: int) -> None: ...
    def run(self, deadline: float) -> Stop: ...
