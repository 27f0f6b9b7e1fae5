from typing import Protocol

from fdproof._descriptor import Descriptor

__all__ = ["adopt", "socket_kind"]

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

def adopt(first: int, count: int) -> list[Descriptor]: ...
def socket_kind(file: int | _HasFileno) -> tuple[int, int, int, bool] | None: ...
