"""Send input to a child and read its output at the same time, so that neither side waits for the other."""

import errno
import os
import select
import time

from fdproof._descriptor import Descriptor
from fdproof._errors import ClosedError
from fdproof._flags import FileFlags
from fdproof.process._child import Child

__all__ = ["Exchange"]

_CHUNK = 1 << 16


class Exchange:
    """One communication with a child, which may take several attempts.

    Args:
        stdin, stdout, stderr: this process's ends of the pipes; closed here as they come to their end.
        input: for stdin.

    Raises:
        ValueError: there is input and no pipe for it.
        ClosedError: a pipe has been closed or handed over.
    """

    def __init__(
        self,
        stdin: Descriptor | None,
        stdout: Descriptor | None,
        stderr: Descriptor | None,
        input: bytes | None,
    ) -> None:
        if input and stdin is None:
            raise ValueError("input: the process was not spawned with stdin=PIPE")
        for name, end in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if end is not None and end.closed and (name != "stdin" or input):
                raise ClosedError(f"{name}: was closed, detached or turned into a file before")
        self._stdin = stdin
        self._rest = memoryview(input or b"")
        self._outputs = {end: bytearray() for end in (stdout, stderr) if end is not None}
        self._stdout = stdout
        self._stderr = stderr
        if stdin is not None and not stdin.closed:
            # A full pipe then takes what it can instead of all or nothing.
            stdin.status |= FileFlags.NONBLOCK

    def run(self, child: Child, timeout_ns: int) -> tuple[bytes | None, bytes | None]:
        """Go on until all ends are closed and the child has ended.

        Raises:
            TimeoutError: not by then; nothing is lost, and a later call goes on.
        """
        deadline = None if timeout_ns < 0 else time.monotonic_ns() + timeout_ns
        self._write()
        poller = select.poll()
        if self._stdin is not None and not self._stdin.closed:
            poller.register(self._stdin, select.POLLOUT)
        open_ends = {end.fileno(): end for end in self._outputs if not end.closed}
        for number in open_ends:
            poller.register(number, select.POLLIN)
        while open_ends or (self._stdin is not None and not self._stdin.closed):
            left = None if deadline is None else deadline - time.monotonic_ns()
            if left is not None and left <= 0:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"process {child.pid} has not closed its output in time"
                )
            # Rounded up: zero would turn the last millisecond into a busy loop.
            for number, _ in poller.poll(None if left is None else -(-left // 1_000_000)):
                end = open_ends.get(number)
                if end is None:
                    self._write()
                    if self._stdin is None or self._stdin.closed:
                        poller.unregister(number)
                elif not self._read(end):
                    poller.unregister(number)
                    del open_ends[number]
                    end.close()
        child.wait(-1 if deadline is None else max(0, deadline - time.monotonic_ns()))
        return self._output(self._stdout), self._output(self._stderr)

    def so_far(self) -> tuple[bytes | None, bytes | None]:
        """Return what has been read of stdout and stderr."""
        return self._output(self._stdout), self._output(self._stderr)

    def _output(self, end: Descriptor | None) -> bytes | None:
        return None if end is None else bytes(self._outputs[end])

    def _write(self) -> None:
        if self._stdin is None or self._stdin.closed:
            return
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._stdin.fileno(), self._rest[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # a child need not read what it is given
        self._stdin.close()

    def _read(self, end: Descriptor) -> bool:
        chunk = os.read(end.fileno(), _CHUNK)
        self._outputs[end] += chunk
        return bool(chunk)
