from collections.abc import Iterable
from typing import Protocol

from typing_extensions import Buffer

from fdproof.passing._records import Credentials

__all__ = ["send"]

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

def send(
    sock: int | _HasFileno,
    data: Buffer,
    files: Iterable[int | _HasFileno] = (),
    *,
    credentials: Credentials | None = None,
    flags: int = 0,
    address: str | bytes | None = None,
) -> int: ...
