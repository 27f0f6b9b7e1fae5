"""The descriptors that a spawn makes for the child: pipes, /dev/null, and what lasts only for the call."""

import os
from enum import IntEnum
from typing import Protocol

from fdproof._creating import open as open_file
from fdproof._creating import pipe
from fdproof._descriptor import Descriptor, Pair
from fdproof._flags import FileFlags

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Source", "Stdio", "Streams", "number_of"]


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


Source = int | _HasFileno


class Stdio(IntEnum):
    """What a standard stream can be besides a descriptor; the numbers are those of ``subprocess``."""

    PIPE = -1
    STDOUT = -2
    DEVNULL = -3


PIPE = Stdio.PIPE
STDOUT = Stdio.STDOUT
DEVNULL = Stdio.DEVNULL


def number_of(source: Source, name: str) -> int:
    """Return the number of a descriptor that stays with its owner.

    Raises:
        TypeError: it is no descriptor.
        ValueError: the number is negative.
        ClosedError: its owner owns nothing any more.
    """
    number = source if isinstance(source, int) else getattr(source, "fileno", lambda: None)()
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(
            f"{name}: takes a descriptor (an int or an object with fileno()), not {source!r}"
        )
    if not 0 <= number < 2**31:
        raise ValueError(f"{name}: {number} is not a descriptor number")
    return number


class Streams:
    """What a spawn opens in this process: owned here until it is handed on or the call ends."""

    def __init__(self) -> None:
        self.stdin: Descriptor | None = None
        self.stdout: Descriptor | None = None
        self.stderr: Descriptor | None = None
        self._made: list[Descriptor | Pair] = []

    def number(self, name: str, source: Source | None, stdout: int | None) -> int | None:
        """Return the number to place as the stream ``name``, made if need be; None leaves it alone.

        Args:
            name: "stdin", "stdout" or "stderr".
            source: what the caller of the spawn gave.
            stdout: the number that stdout got, for STDOUT.
        """
        if source is None:
            return None
        if source == PIPE:
            pair = pipe()
            self._made.append(pair)
            ours, theirs = (
                (pair.second, pair.first) if name == "stdin" else (pair.first, pair.second)
            )
            setattr(self, name, ours)
            return theirs.fileno()
        if source == DEVNULL:
            return self.keep(open_file(os.devnull, FileFlags.RDWR)).fileno()
        if source == STDOUT:
            if name != "stderr":
                raise ValueError(
                    f"{name}: STDOUT is for stderr, where it means: the same as stdout"
                )
            return 1 if stdout is None else stdout
        return number_of(source, name)

    def keep(self, owner: Descriptor) -> Descriptor:
        """Own a descriptor until the child has it, or has failed."""
        self._made.append(owner)
        return owner

    def hand_on(self, owner: Descriptor) -> None:
        """Stop owning a descriptor that was kept; the caller owns it."""
        self._made.remove(owner)

    def close_theirs(self) -> None:
        """Close everything but this process's ends of pipes."""
        ours = (self.stdin, self.stdout, self.stderr)
        for made in self._made:
            for end in made if isinstance(made, Pair) else (made,):
                if not any(end is one for one in ours):
                    end.close()

    def close(self) -> None:
        """Close both sides; for when there is no child."""
        for made in self._made:
            made.close()
