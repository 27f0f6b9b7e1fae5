from typing import final

from fdproof.process._child import Child
from fdproof.process._order import Order

__all__ = ["STEPS", "Start"]

STEPS: dict[int, str]

@final
class Start:
    def __init__(self, order: Order) -> None: ...
    def make(self) -> Child | None: ...
    @property
    def error(self) -> int: ...
    @property
    def step(self) -> str: ...
    @property
    def which(self) -> int: ...
