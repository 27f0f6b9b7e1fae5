"""Stages as seen from the process that orders runs: start them, ask them, end them."""

import subprocess
import sys
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from fdproof._descriptor import memfd, socketpair
from fdproof._errors import Error
from fdproof._flags import FileFlags
from fdproof.check.operation import Operation, OperationError
from fdproof.check.records import Outcome, Request

__all__ = ["Stage"]

_GRACE = 30.0


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
        here, there = socketpair()
        with here, there, memfd("stderr of the operation") as errors:
            there.inheritable = True
            # Appending, so that every run writes at the end of what is there.
            errors.status |= FileFlags.APPEND
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fdproof.check.stage", str(there.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors.fileno(),
                pass_fds=[there.fileno()],
                # A terminal's Ctrl-C is for the one who ordered the runs, not for the runs.
                process_group=0,
            )
            self._line = Connection(here.detach())
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
        self._line.send(request)
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
            raise OperationError(
                f"the process of the operation {str(self._operation)!r} ended by itself, with status {status}, "
                "while it was loaded or warmed up. Check a function that returns."
            ) from error
        if isinstance(answer, (Error, OSError)):
            raise answer
        return answer

    def close(self) -> None:
        """End the stage and everything that its runs left; twice is quiet."""
        # Its own clean-up follows from the hang-up; SIGTERM reaches it also inside the operation.
        self._line.close()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
