from threading import RLock

from fdproof._descriptor import Descriptor

__all__ = ["forget"]

def forget(
    kept: dict[bytes, tuple[bytes, Descriptor]], place: list[Descriptor], lock: RLock
) -> None: ...
