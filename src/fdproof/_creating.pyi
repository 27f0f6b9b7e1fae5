from collections.abc import Iterable
from os import PathLike
from typing import Protocol

from fdproof._descriptor import Descriptor, Pair
from fdproof._flags import FileFlags, ResolveFlags

__all__ = [
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

_Path = str | bytes | PathLike[str] | PathLike[bytes]

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
