from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from os import PathLike
from socket import socket
from types import TracebackType
from typing import IO, Any, BinaryIO, Literal, Never, Protocol, Self, final, overload

from fdproof._flags import FileFlags, ResolveFlags

__all__ = [
    "Descriptor",
    "Pair",
    "epoll",
    "eventfd",
    "inotify",
    "memfd",
    "open",
    "pidfd",
    "pipe",
    "signalfd",
    "socketpair",
    "timerfd",
]

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

class _HasDetach(Protocol):
    def detach(self) -> int: ...

_Path = str | bytes | PathLike[str] | PathLike[bytes]
_TextMode = Literal["r", "r+", "w", "w+", "a", "a+", "rt", "r+t", "wt", "w+t", "at", "a+t"]
_BinaryMode = Literal["rb", "rb+", "r+b", "wb", "wb+", "w+b", "ab", "ab+", "a+b"]

@final
class Descriptor:
    def __init__(self, source: int | _HasDetach, *, inheritable: bool = False) -> None: ...
    def fileno(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def detach(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
    def __del__(self) -> None: ...
    @property
    def inheritable(self) -> bool: ...
    @inheritable.setter
    def inheritable(self, value: bool) -> None: ...
    @property
    def status(self) -> FileFlags: ...
    @status.setter
    def status(self, value: FileFlags | int) -> None: ...
    def duplicate(self, *, at_least: int = 0, inheritable: bool = False) -> Descriptor: ...
    def same_file(self, other: int | _HasFileno) -> bool: ...
    @overload
    def into_file(
        self,
        mode: _TextMode = "r",
        *,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> TextIOWrapper: ...
    @overload
    def into_file(
        self,
        mode: _BinaryMode,
        *,
        buffering: int = -1,
        encoding: None = None,
        errors: None = None,
        newline: None = None,
    ) -> BinaryIO: ...
    @overload
    def into_file(
        self,
        mode: str,
        *,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]: ...
    def into_socket(self) -> socket: ...

@final
class Pair:
    # Always a TypeError: pairs come from pipe() and socketpair().
    def __init__(self, *args: Never, **kwargs: Never) -> None: ...
    @property
    def first(self) -> Descriptor: ...
    @property
    def second(self) -> Descriptor: ...
    def __len__(self) -> Literal[2]: ...
    @overload
    def __getitem__(self, index: int, /) -> Descriptor: ...
    @overload
    def __getitem__(self, index: slice, /) -> tuple[Descriptor, ...]: ...
    def __iter__(self) -> Iterator[Descriptor]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

def duplicate_of(source: int | _HasFileno, at_least: int, inheritable: bool) -> Descriptor: ...
def open(
    path: _Path,
    flags: FileFlags | int = ...,
    *,
    mode: int = 0o666,
    directory: int | _HasFileno | None = None,
    resolve: ResolveFlags | int = 0,
    inheritable: bool = False,
) -> Descriptor: ...
def pipe(*, nonblocking: bool = False, packet: bool = False, inheritable: bool = False) -> Pair: ...
def socketpair(
    *, type: int = ..., nonblocking: bool = False, inheritable: bool = False
) -> Pair: ...
def memfd(name: _Path, *, allow_sealing: bool = False, inheritable: bool = False) -> Descriptor: ...
def eventfd(
    initial: int = 0,
    *,
    semaphore: bool = False,
    nonblocking: bool = False,
    inheritable: bool = False,
) -> Descriptor: ...
def timerfd(
    clock: int = 1,
    *,
    after: float = 0.0,
    every: float = 0.0,
    nonblocking: bool = False,
    inheritable: bool = False,
) -> Descriptor: ...
def signalfd(
    signals: Iterable[int], *, nonblocking: bool = False, inheritable: bool = False
) -> Descriptor: ...
def epoll(*, inheritable: bool = False) -> Descriptor: ...
def inotify(*, nonblocking: bool = False, inheritable: bool = False) -> Descriptor: ...
def pidfd(
    pid: int, *, thread: bool = False, nonblocking: bool = False, inheritable: bool = False
) -> Descriptor: ...
