"""Expecting an errno, now; or what Linux does in the background, soon."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

__all__ = ["eventually", "failing"]

PATIENCE = 10.0


@contextmanager
def failing(number: int) -> Iterator[None]:
    """Demand that the block raises OSError with exactly this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        yield
    assert caught.value.errno == number, caught.value


def eventually(holds: Callable[[], bool]) -> None:
    """Demand that something becomes true; the model has it true at the first look."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.001)
