from typing import final

from fdproof._descriptor import Descriptor

__all__ = ["Handover", "mark", "spawn_target"]

def mark(code: int) -> int | None: ...

@final
class Handover:
    def __init__(self) -> None: ...
    def reset(self) -> None: ...
    def enter(self, program: bytes) -> None: ...
    def fetch(self, child: Descriptor, timeout: float = 10.0) -> Descriptor: ...

def spawn_target(
    program: bytes,
    path: bytes,
    arguments: list[bytes],
    environment: list[bytes],
    directory: bytes | None,
    kill_with_parent: bool,
) -> tuple[int, Descriptor, Descriptor]: ...
