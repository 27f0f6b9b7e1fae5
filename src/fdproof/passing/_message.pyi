from collections.abc import Iterable
from types import TracebackType
from typing import Never, Self, final

from fdproof._descriptor import Descriptor
from fdproof.passing._records import Credentials
from fdproof.process import Process

__all__ = ["Message"]

@final
class Message:
    @property
    def data(self) -> bytes: ...
    @property
    def files(self) -> tuple[Descriptor, ...]: ...
    @property
    def credentials(self) -> Credentials | None: ...
    @property
    def process(self) -> Process | None: ...
    @property
    def address(self) -> str | bytes | None: ...
    @property
    def flags(self) -> int: ...
    def __init__(
        self,
        data: bytes = b"",
        files: Iterable[Descriptor] = (),
        *,
        credentials: Credentials | None = None,
        process: Process | None = None,
        address: str | bytes | None = None,
        flags: int = 0,
    ) -> None: ...
    def __reduce__(self) -> Never: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
