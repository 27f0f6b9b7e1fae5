"""Service: this process as its manager sees it, and what it keeps there over a restart."""

import os
import select
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from fdproof import passing
from fdproof._creating import pipe
from fdproof._descriptor import Descriptor
from fdproof.handover._activation import listeners
from fdproof.handover._datagram import BARRIER, address_from, checked_name, encoded
from fdproof.handover._handed import Handed
from fdproof.handover._restoring import Restoring
from fdproof.passing._deadline import Deadline

__all__ = ["Service"]


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class Service:
    """This process as a service, told to the manager that started it: systemd, or ``fdproof store``.

    Without a manager every call that tells something returns False and does nothing, so a program runs
    the same from a shell. True means that the manager's socket has the message, not that it was read:
    ``barrier`` waits for that.

    Each call makes its own socket and closes it, so there is nothing to close here, and an object may be
    shared by threads and forks.

    Args:
        address: the manager's socket, as a path or ``@`` and an abstract name; None takes NOTIFY_SOCKET.

    Raises:
        ValueError: the address is neither.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get("NOTIFY_SOCKET") or None
        self._place = None if self._address is None else address_from(self._address)

    @property
    def address(self) -> str | None:
        """Where the manager listens; None without one."""
        return self._address

    def tell(self, fields: Mapping[str, str], files: Sequence[int | _HasFileno] = ()) -> bool:
        """Send any fields of sd_notify(3) in one message, for those that have no method here.

        Args:
            fields: names and values, on one line each.
            files: descriptors that go with them; the caller keeps its own.

        Returns:
            False without a manager.

        Raises:
            ValueError: a field cannot be sent; the message names it.
            OSError: the manager cannot be reached, with its address: ENOENT, ECONNREFUSED, nobody
                listens; EACCES, the socket's permissions. EMFILE: each message needs a descriptor.
                ETOOMANYREFS: too many of this user's descriptors are under way.
        """
        data = encoded(fields)
        if self._place is None:
            return False
        with self._connected() as manager:
            passing.send(manager, data, files)
        return True

    def ready(self, *, status: str | None = None) -> bool:
        """Tell that the service has started, or has reloaded.

        Args:
            status: as ``status`` tells it, in the same message.

        Returns, Raises: as for ``tell``.
        """
        return self._tell({"READY": "1"}, status)

    def reloading(self, *, status: str | None = None) -> bool:
        """Tell that the service reloads its configuration; ``ready`` ends it. As ``ready``."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        return self._tell({"RELOADING": "1", "MONOTONIC_USEC": str(now)}, status)

    def stopping(self, *, status: str | None = None) -> bool:
        """Tell that the service is about to end. As ``ready``."""
        return self._tell({"STOPPING": "1"}, status)

    def status(self, text: str) -> bool:
        """Tell people in one line what the service does now. As ``tell``."""
        return self.tell({"STATUS": text})

    def failed(self, number: int, *, status: str | None = None) -> bool:
        """Tell that the service fails with an errno. As ``ready``."""
        return self._tell({"ERRNO": str(number)}, status)

    def main_pid(self, pid: int) -> bool:
        """Tell which process is the service's main one, where that is not this one's child. As ``tell``."""
        return self.tell({"MAINPID": str(pid)})

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for so much more time, from now on, to start, to reload or to stop. As ``tell``."""
        return self.tell({"EXTEND_TIMEOUT_USEC": _microseconds(seconds, "seconds")})

    @property
    def watchdog_period(self) -> float | None:
        """Seconds within which the manager expects ``alive`` each time; None if it does not.

        Half of it is a good time between two. From WATCHDOG_USEC and WATCHDOG_PID.

        Raises:
            ValueError: a variable is no number.
        """
        period = os.environ.get("WATCHDOG_USEC")
        if (
            not period
            or _number("WATCHDOG_PID", os.environ.get("WATCHDOG_PID"), os.getpid()) != os.getpid()
        ):
            return None
        return _number("WATCHDOG_USEC", period, 0) / 1e6

    def alive(self) -> bool:
        """Tell the watchdog that the service works. As ``tell``."""
        return self.tell({"WATCHDOG": "1"})

    def trigger_watchdog(self) -> bool:
        """Have the manager act as if the watchdog's time were over. As ``tell``."""
        return self.tell({"WATCHDOG": "trigger"})

    def set_watchdog(self, seconds: float) -> bool:
        """Change the watchdog's period for as long as this process runs. As ``tell``."""
        return self.tell({"WATCHDOG_USEC": _microseconds(seconds, "seconds")})

    def barrier(self, timeout: float | None = None) -> bool:
        """Wait until the manager has read everything that was told before.

        A process that ends without this may do so too early: the manager refuses the message of a
        process that is gone. What was pushed may be closed at any time.

        Args:
            timeout: seconds; None is for ever.

        Returns:
            False without a manager.

        Raises:
            TimeoutError: it has not by then.
            OSError: as for ``tell``.
        """
        deadline = Deadline(timeout, "the manager has not read what was told")
        if self._place is None:
            return False
        with self._connected() as manager, pipe() as (reading, writing):
            _send(manager, _BARRIER, writing, deadline)
            writing.close()
            deadline.wait(reading.fileno(), select.POLLIN)
        return True

    async def barrier_async(self) -> bool:
        """As ``barrier``, in asyncio or Trio; time limits are those of AnyIO (``fail_after``)."""
        import anyio

        if self._place is None:
            return False
        with self._connected() as manager, pipe() as (reading, writing):
            await _send_async(manager, _BARRIER, writing)
            writing.close()
            await anyio.wait_readable(reading.fileno())
        return True

    def push(self, name: str, file: int | _HasFileno, *, poll: bool = True) -> bool:
        """Leave a descriptor with the manager, which hands it to the next start of the service.

        Args:
            name: printable ASCII without a colon, 255 characters at most. Several may have the same.
            file: the caller keeps its own. The same file again counts once.
            poll: the manager forgets it when it hangs up or fails, a connection whose peer has gone for
                instance. A socket that was never connected, and does not listen, counts as hung up.

        Returns:
            False without a manager.

        Raises:
            ValueError: the name cannot be.
            OSError: as for ``tell``.
        """
        fields = {"FDSTORE": "1", "FDNAME": checked_name(name)}
        if not poll:
            fields["FDPOLL"] = "0"
        return self.tell(fields, (file,))

    def remove(self, name: str) -> bool:
        """Have the manager forget, and close, everything of a name. As ``push``."""
        return self.tell({"FDSTOREREMOVE": "1", "FDNAME": checked_name(name)})

    def restore(self, timeout: float | None = None) -> Handed:
        """Take what earlier starts of the service have pushed.

        It is what ``listeners`` finds: systemd and ``fdproof store -- COMMAND`` hand everything over at
        the start. Only if that is nothing, the manager is asked, which a store of fdproof answers. It
        goes on keeping what it hands over.

        Args:
            timeout: seconds for the question; None is for ever.

        Returns:
            The Handed, which owns the descriptors; empty also without a manager, and with one that
            does not know the question.

        Raises:
            TimeoutError: there is no answer by then.
            ConnectionResetError: the store went away while it answered. Nothing was taken.
            TruncatedError: the table of this process is full; it owns what came last.
            ValueError, OSError: as for ``listeners`` and ``tell``.
        """
        handed = listeners()
        if handed or self._place is None:
            return handed
        deadline = Deadline(timeout, "the store has not answered")
        with self._connected() as manager, Restoring() as restoring:
            _send(manager, restoring.question, restoring.theirs, deadline)
            restoring.theirs.close()
            while not restoring.done:
                deadline.wait(restoring.fileno(), select.POLLIN)
                restoring.receive()
            return restoring.handed()

    async def restore_async(self) -> Handed:
        """As ``restore``, in asyncio or Trio; time limits are those of AnyIO (``fail_after``)."""
        import anyio

        handed = listeners()
        if handed or self._place is None:
            return handed
        with self._connected() as manager, Restoring() as restoring:
            await _send_async(manager, restoring.question, restoring.theirs)
            restoring.theirs.close()
            while not restoring.done:
                await anyio.wait_readable(restoring.fileno())
                restoring.receive()
            return restoring.handed()

    def _tell(self, fields: dict[str, str], status: str | None) -> bool:
        return self.tell(fields if status is None else {**fields, "STATUS": status})

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        assert self._place is not None
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            try:
                manager.connect(self._place)
            except OSError as error:
                if error.errno is None:
                    raise ValueError(f"NOTIFY_SOCKET: {self._address!r}: {error}") from None
                raise OSError(error.errno, os.strerror(error.errno), self._address) from None
            yield manager

    def __repr__(self) -> str:
        return f"<fdproof.handover.Service told to {self._address or 'nobody'}>"


_BARRIER = encoded({BARRIER: "1"})


def _send(manager: socket.socket, data: bytes, file: Descriptor, deadline: Deadline) -> None:
    while True:
        try:
            passing.send(manager, data, (file,), flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            deadline.wait(manager.fileno(), select.POLLOUT)
        else:
            return


async def _send_async(manager: socket.socket, data: bytes, file: Descriptor) -> None:
    import anyio

    while True:
        try:
            passing.send(manager, data, (file,), flags=socket.MSG_DONTWAIT)
        except BlockingIOError:
            await anyio.wait_writable(manager)
        else:
            return


def _microseconds(seconds: float, name: str) -> str:
    # The comparison is false for a NaN as well.
    if not 0 < seconds < 1e12:
        raise ValueError(f"{name}: takes seconds above 0, not {seconds!r}")
    return str(max(round(seconds * 1e6), 1))


def _number(variable: str, text: str | None, missing: int) -> int:
    if not text:
        return missing
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ValueError(f"{variable}: {text!r} is not a number")
    return int(text)
