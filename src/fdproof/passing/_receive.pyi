from typing import Protocol

from fdproof.passing._message import Message

__all__ = ["receive"]

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

def receive(
    sock: int | _HasFileno,
    max_bytes: int,
    max_files: int = 0,
    *,
    peek: bool = False,
    flags: int = 0,
) -> Message: ...
