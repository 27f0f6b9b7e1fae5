"""Wait for many processes by one epoll, and for one or many in asyncio and Trio."""

import math
import select
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fdproof.process._process import Process, nanoseconds

__all__ = ["wait_async", "wait_many", "wait_many_async"]


class _Watch:
    """The processes that have not ended, in one epoll."""

    def __init__(self, poller: "select.epoll", processes: Iterable[Process], count: int | None):
        # The same process twice is one; a file can be in an epoll once.
        self._running = {process.fileno(): process for process in processes}
        self.wanted = len(self._running) if count is None else min(count, len(self._running))
        self.ended: list[Process] = []
        self._poller = poller
        for number in self._running:
            poller.register(number, select.EPOLLIN)

    @property
    def done(self) -> bool:
        return len(self.ended) >= self.wanted

    def fileno(self) -> int:
        return self._poller.fileno()

    def collect(self, timeout: float) -> None:
        """Note those that end within ``timeout`` seconds; children among them are reaped."""
        for number, _ in self._poller.poll(timeout, max(len(self._running), 1)):
            self._poller.unregister(number)
            process = self._running.pop(number)
            if process.owned:
                process.poll()
            self.ended.append(process)


@contextmanager
def _watch(processes: Iterable[Process], count: int | None) -> Iterator[_Watch]:
    if count is not None and count < 1:
        raise ValueError(f"count: takes None or a number from 1 on, not {count}")
    with select.epoll() as poller:
        yield _Watch(poller, processes, count)


def wait_many(
    processes: Iterable[Process], timeout: float | None = None, *, count: int | None = 1
) -> list[Process]:
    """Wait until some of the processes have ended, by one epoll, however many there are.

    Children among them are reaped. Others' processes count as ended before their parents reap them.

    Args:
        processes: they stay with their owners.
        timeout: seconds; None is for ever.
        count: how many ends to wait for; None for all.

    Returns:
        Those that have ended, the first to end first as far as it was seen; fewer than ``count`` when the
        time is over.

    Raises:
        OSError: EMFILE, ENFILE, ENOMEM, ENOSPC, no epoll, or none for so many.
        ClosedError: one of them was closed.

    Kernel: epoll(7) on pidfds (5.3).
    """
    limit = nanoseconds(timeout)
    deadline = math.inf if limit < 0 else time.monotonic_ns() + limit
    with _watch(processes, count) as watch:
        # What has ended already is told, also when there is no time at all.
        watch.collect(0)
        while not watch.done and (left := deadline - time.monotonic_ns()) > 0:
            watch.collect(-1 if left == math.inf else left / 1e9)
        return watch.ended


async def wait_many_async(processes: Iterable[Process], *, count: int | None = 1) -> list[Process]:
    """As ``wait_many``, in asyncio or Trio; time limits are those of AnyIO (``move_on_after``).

    Cancelling it leaves the processes alone.
    """
    import anyio

    with _watch(processes, count) as watch:
        watch.collect(0)
        while not watch.done:
            # An epoll is readable itself when one of its files is.
            await anyio.wait_readable(watch.fileno())
            watch.collect(0)
        return watch.ended


async def wait_async(process: Process) -> int:
    """Wait for the end of a process; see ``Process.wait_async``."""
    import anyio

    while (status := process.poll()) is None:
        # A pidfd of its own for each waiter: event loops know a number once only. Somebody else's ended
        # child stays readable until it is reaped, and only then hangs up.
        with select.epoll() as poller:
            poller.register(process.fileno(), 0 if process.ended else select.EPOLLIN)
            await anyio.wait_readable(poller.fileno())
    return status
