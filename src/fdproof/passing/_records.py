"""Who is at the other end: frozen records."""

import os
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from fdproof.process import Process

__all__ = ["Credentials", "Peer"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A process, a user and a group by number, as a sender states them and the kernel checks them.

    The numbers are those of the reader's namespaces. ``pid`` is 0 for a process outside them, and may
    mean another process by now.
    """

    pid: int
    uid: int
    gid: int

    @classmethod
    def current(cls) -> Self:
        """Return this process's own, with its effective user and group."""
        return cls(os.getpid(), os.geteuid(), os.getegid())


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, or listened, or made the pair, as it was at that moment.

    It owns ``process``; leaving the ``with`` block closes it.

    Attributes:
        pid: for people and logs; 0 when the process is outside this pid namespace.
        uid, gid: effective user and group.
        groups: the supplementary groups.
        process: the process itself, which no other can take the place of. Owned here, never a child.
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    process: Process

    def close(self) -> None:
        """Close ``process``; twice is quiet."""
        self.process.close()

    def __enter__(self) -> Self:
        self.process.fileno()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
