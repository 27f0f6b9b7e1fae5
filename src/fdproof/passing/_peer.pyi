from typing import Protocol

from fdproof.passing._records import Peer

__all__ = ["peer"]

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

def peer(sock: int | _HasFileno) -> Peer: ...
