"""Stages as seen from the process that orders runs: start them, ask them, end them."""

import collections
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from fdproof._creating import memfd, socketpair
from fdproof._descriptor import Descriptor
from fdproof._errors import Error
from fdproof._flags import FileFlags
from fdproof.check.operation import Operation, OperationError
from fdproof.check.records import Outcome, Request
from fdproof.process import DEVNULL, Process, spawn

__all__ = ["Stage"]

_GRACE = 10.0
_AHEAD = 1


def _start(errors: Descriptor) -> tuple[Process, Connection]:
    # Appending, so that every run writes at the end of what is there.
    errors.status |= FileFlags.APPEND
    with socketpair() as (here, there):
        stage = spawn(
            [sys.executable, "-m", "fdproof.check.stage", str(there.fileno())],
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=errors,
            inheritable=[there],
            # A terminal's Ctrl-C is for the one who ordered the runs, not for the runs.
            process_group=0,
            parent_death_signal=signal.SIGTERM,
        )
        return stage, Connection(here.detach())


class Stage:
    """A warmed process for runs of one operation.

    Args:
        operation: what it runs.
        timeout: seconds for the warm-up.

    Raises:
        OperationError: the operation cannot be loaded, or its warm-up does not end.
        UnsupportedError: the kernel lacks something.
    """

    def __init__(self, operation: Operation, timeout: float) -> None:
        self._operation = operation
        self._errors = memfd("stderr of the operation")
        try:
            self._process, self._line = _start(self._errors)
        except BaseException:
            self._errors.close()
            raise
        try:
            self._line.send(operation)
            self.raised = str(
                self._answer(timeout, "the operation does not end when it runs undisturbed")
            )
        except BaseException:
            self.close()
            raise

    def run(self, request: Request) -> Outcome:
        """Make one run.

        Raises:
            Error: the stage died, or the check failed inside it.
        """
        return next(self.run_each([request]))

    def run_each(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Make several runs; the next is ordered before the last is looked at, so that none waits.

        Yields:
            The outcomes in order. They must all be taken, or the stage closed.

        Raises:
            Error: as ``run``.
        """
        ordered: collections.deque[Request] = collections.deque()
        for request in requests:
            self._line.send(request)
            ordered.append(request)
            if len(ordered) > _AHEAD:
                yield self._outcome(ordered.popleft())
        while ordered:
            yield self._outcome(ordered.popleft())

    def _outcome(self, request: Request) -> Outcome:
        outcome = self._answer(
            request.timeout * (1 + len(request.stacks)) + _GRACE, "the check does not get on"
        )
        assert isinstance(outcome, Outcome)
        return outcome

    def _answer(self, timeout: float, complaint: str) -> Any:
        deadline = time.monotonic() + timeout
        try:
            if not self._line.poll(max(0.0, deadline - time.monotonic())):
                raise OperationError(
                    f"{complaint}: nothing came back within {timeout:g} seconds. Give it more with --timeout, "
                    "or check something that ends."
                )
            answer = self._line.recv()
        except (EOFError, ConnectionResetError) as error:
            status = self._process.wait()
            said = os.pread(self._errors.fileno(), 4000, 0).decode(errors="replace").strip()
            raise OperationError(
                f"the process of the operation {str(self._operation)!r} ended by itself, with status {status}"
                + (f", saying: {said.splitlines()[-1]}" if said else "")
                + ". Check a function that returns."
            ) from error
        if isinstance(answer, (Error, OSError)):
            raise answer
        return answer

    def close(self) -> None:
        """End the stage and everything that its runs left; twice is quiet."""
        # It ends its runs first, also from inside the operation. Not by hanging up: another thread may wait
        # for an answer on the line, and would keep it open.
        if self._process.closed:
            return
        self._process.terminate()
        try:
            self._process.wait(_GRACE)
        except TimeoutError:
            self._process.kill()
            self._process.wait()
        self._process.close()
        self._line.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
