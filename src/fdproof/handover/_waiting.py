"""Two ways to wait for another process: by blocking, and in an event loop.

A conversation is written once, as a coroutine that waits by one of these ways. With the first it never
suspends, so ``finished`` runs it to its end like a function.
"""

import select
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from fdproof.passing import Channel
from fdproof.passing._deadline import Deadline

__all__ = ["Blocking", "InLoop", "Ways", "finished"]

_Result = TypeVar("_Result")


class Ways(Protocol):
    """What a conversation waits for; each raises the deadline's TimeoutError when the time is over."""

    async def send(
        self, channel: Channel, data: bytes, files: Sequence[Any], deadline: Deadline
    ) -> None:
        """Send a message."""

    async def readable(self, number: int, deadline: Deadline) -> None:
        """Wait until a descriptor can be read."""

    async def pause(self, seconds: float, deadline: Deadline) -> None:
        """Wait for a time."""


class Blocking:
    """Waits by blocking the thread."""

    async def send(
        self, channel: Channel, data: bytes, files: Sequence[Any], deadline: Deadline
    ) -> None:
        """See Ways."""
        with _told_by(deadline):
            channel.send(data, files, timeout=deadline.left)

    async def readable(self, number: int, deadline: Deadline) -> None:
        """See Ways."""
        deadline.wait(number, select.POLLIN)

    async def pause(self, seconds: float, deadline: Deadline) -> None:
        """See Ways."""
        if deadline.left == 0:
            raise deadline.over()
        time.sleep(seconds)


class InLoop:
    """Waits in asyncio or Trio, while other tasks run."""

    async def send(
        self, channel: Channel, data: bytes, files: Sequence[Any], deadline: Deadline
    ) -> None:
        """See Ways."""
        with _limited_by(deadline):
            await channel.send_async(data, files)

    async def readable(self, number: int, deadline: Deadline) -> None:
        """See Ways."""
        import anyio

        with _limited_by(deadline):
            await anyio.wait_readable(number)

    async def pause(self, seconds: float, deadline: Deadline) -> None:
        """See Ways."""
        import anyio

        if deadline.left == 0:
            raise deadline.over()
        await anyio.sleep(seconds)


@contextmanager
def _told_by(deadline: Deadline) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise deadline.over() from None


@contextmanager
def _limited_by(deadline: Deadline) -> Iterator[None]:
    import anyio

    with _told_by(deadline), anyio.fail_after(deadline.left):
        yield


def finished(conversation: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a conversation that waits by blocking, and return what it returns."""
    try:
        conversation.send(None)
    except StopIteration as end:
        result: _Result = end.value
        return result
    finally:
        conversation.close()
    raise AssertionError("a conversation that blocks has suspended")
