"""Deadline: one time limit over several waits."""

import select
import time

__all__ = ["Deadline"]


class Deadline:
    """A time limit that runs from its creation on.

    Args:
        timeout: seconds; None is for ever.
        complaint: what the TimeoutError says, up to "within 5 s".
    """

    def __init__(self, timeout: float | None, complaint: str) -> None:
        # The comparison is false for a NaN as well.
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout: takes None or seconds from 0 on, not {timeout!r}")
        self._end = None if timeout is None else time.monotonic() + timeout
        self._complaint = f"{complaint} within {timeout} s"

    @property
    def left(self) -> float | None:
        """Seconds from now on, 0 when the time is over; None is for ever."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def over(self) -> TimeoutError:
        """Return the error that says so."""
        return TimeoutError(self._complaint)

    def wait(self, number: int, events: int) -> None:
        """Wait until a descriptor is ready, or has hung up.

        Args:
            number: the descriptor's.
            events: ``select.POLLIN`` or ``POLLOUT``.

        Raises:
            TimeoutError: the time is over.
        """
        poller = select.poll()
        poller.register(number, events)
        left = self.left
        # A day at a time: poll(2) counts milliseconds in an int.
        while not poller.poll(None if left is None else min(left, 86_400.0) * 1000):
            left = self.left
            if not left:
                raise self.over()
