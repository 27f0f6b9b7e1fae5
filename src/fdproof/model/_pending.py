"""Calls under way: begun, and not returned yet."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fdproof.model._failure import Blocked, failure

if TYPE_CHECKING:
    from fdproof.model._file import File
    from fdproof.model._task import Task

__all__ = ["Pending"]


class Pending:
    """A system call that ``begin`` started; it may wait for something that another task does.

    Args:
        task: whose call it is.
        call: its name.
        run: carries it out.
    """

    def __init__(self, task: "Task", call: str, run: Callable[[], Any]) -> None:
        self.task = task
        self.call = call
        self._run = run
        self._blocked: Blocked | None = None
        self._value: Any = None
        self._error: OSError | None = None
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the call has returned."""
        return self._done

    def result(self) -> Any:
        """Return what the call returned, or raise its OSError.

        Raises:
            Blocked: it has not returned yet.
        """
        if not self._done:
            raise Blocked
        if self._error is not None:
            raise self._error
        return self._value

    @property
    def file(self) -> "File | None":
        """The file that the call waits on, to which it has a reference."""
        return self._blocked._file if self._blocked is not None else None

    # -- for whoever answers the call

    def finish(self, value: Any) -> None:
        """Let the call return a value."""
        self._value = value
        self._end()

    def fail(self, number: int) -> None:
        """Let the call fail with an errno."""
        self._error = failure(number)
        self._end()

    def proceed(self) -> None:
        """Let the kernel carry the call out, now."""
        self._attempt(self._run)

    # -- for the kernel

    def retry(self) -> bool:
        """Try a call that waits again, and say whether it has returned."""
        if self._done or self._blocked is None or self._blocked.resume is None:
            return False
        self._attempt(self._blocked.resume)
        return self._done

    def abandon(self) -> None:
        """Forget the call: its task ended."""
        self._end()

    def _attempt(self, run: Callable[[], Any]) -> None:
        kernel = self.task.kernel
        before, kernel.current = kernel.current, self.task
        try:
            value = run()
        except Blocked as blocked:
            if self._blocked is None:
                self._blocked = blocked
                if blocked.resume is None:
                    blocked.resume = run
                kernel.waiting.append(self)
        except OSError as error:
            self._error = error
            self._end()
        else:
            self.finish(value)
        finally:
            kernel.current = before

    def _end(self) -> None:
        self._done = True
        if self.task.pending is self:
            self.task.pending = None
        if self in self.task.kernel.waiting:
            self.task.kernel.waiting.remove(self)
        if self._blocked is not None:
            self._blocked.abandon()

    def __repr__(self) -> str:
        return f"<{self.call} of task {self.task.pid}>"
