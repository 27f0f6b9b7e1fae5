"""Expecting an errno."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

__all__ = ["failing"]


@contextmanager
def failing(number: int) -> Iterator[None]:
    """Demand that the block raises OSError with exactly this errno."""
    with pytest.raises(OSError) as caught:  # noqa: PT011
        yield
    assert caught.value.errno == number, caught.value
