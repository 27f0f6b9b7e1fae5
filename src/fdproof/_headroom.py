"""Headroom: slots kept back for the few paths that must work when the table is full."""

import errno
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self, TypeVar

from fdproof._descriptor import Descriptor
from fdproof._errors import StateError
from fdproof._publication import Reservation, reserve

__all__ = ["Headroom"]

T = TypeVar("T")


class Headroom:
    """Keep ``count`` reservations back, and lend them to named paths when the table is full.

    The trick that servers use to survive EMFILE in accept: with a spare slot the connection can be
    accepted and closed, or its reason logged, instead of staying in the queue for ever.

    Each reservation holds two numbers (see :func:`fdproof.reserve`), so a path that draws one finds
    room for two descriptors. Racy by nature: another thread may take a released number first;
    then the next reservation is drawn.

    Args:
        count: how many reservations to keep back, at least 1.
        paths: the names of the paths that may draw on it.

    Raises:
        OSError: EMFILE, ENFILE, they cannot be had now; none is kept.
        ValueError: ``count`` or ``paths`` is out of range.
    """

    def __init__(self, count: int, *, paths: Iterable[str]) -> None:
        self._held: list[Reservation[Descriptor, Descriptor]] = []
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"count: {count!r} is not a whole number from 1")
        if isinstance(paths, str):
            raise ValueError(f"paths: takes several names, as in [{paths!r}]")
        self.count = count
        self.drawn = dict.fromkeys(paths, 0)
        if not self.drawn:
            raise ValueError("paths: names no path, so nobody could ever draw on this headroom")
        self._closed = False
        try:
            while len(self._held) < count:
                self._held.append(reserve())
        except BaseException:
            self.close()
            raise

    @property
    def held(self) -> int:
        """How many reservations are kept back at this moment."""
        return len(self._held)

    def run(self, path: str, operation: Callable[[], T]) -> T:
        """Run an operation, with the headroom behind it if the table is full.

        Args:
            path: one of the names given at the start; ``drawn[path]`` counts what it drew.
            operation: called at once, and again after each release while it fails with EMFILE or
                ENFILE and something is still held.

        Returns:
            What ``operation`` returns. The headroom is filled up again as far as the table allows.

        Raises:
            StateError: closed, or ``path`` was not named. Whatever ``operation`` raises passes through.
        """
        if self._closed:
            raise StateError("this headroom is closed")
        if path not in self.drawn:
            raise StateError(
                f"path: {path!r} may not draw on this headroom, only {', '.join(map(repr, self.drawn))}"
            )
        try:
            while True:
                try:
                    return operation()
                except OSError as error:
                    if error.errno not in (errno.EMFILE, errno.ENFILE):
                        raise
                    try:
                        lent = self._held.pop()
                    except IndexError:  # not asked before: another thread may draw at the same time
                        raise error from None
                self.drawn[path] += 1
                lent.cancel()
        finally:
            self.refill()

    def refill(self) -> int:
        """Reserve again what was lent, as far as the table allows.

        Returns:
            How many are held now.
        """
        try:
            while not self._closed and len(self._held) < self.count:
                self._held.append(reserve())
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
        return len(self._held)

    def close(self) -> None:
        """Give everything back; twice is quiet."""
        self._closed = True
        while self._held:
            self._held.pop().cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fdproof.Headroom {self.held} of {self.count} held>"
