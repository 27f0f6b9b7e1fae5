"""The exceptions of fdproof: what the kernel cannot say.

What the kernel says stays an :class:`OSError` with its errno. An exception that
travels with descriptors owns them.
"""

import errno
from types import TracebackType
from typing import Any, Literal, Self

__all__ = [
    "ClosedError",
    "Error",
    "FlagError",
    "StaleError",
    "StateError",
    "TruncatedError",
    "UnsupportedError",
]


class Error(Exception):
    """Any error that fdproof itself raises."""


class ClosedError(Error, ValueError):
    """A descriptor was used after it was closed, detached or handed over."""


class StateError(Error, RuntimeError):
    """A call came in the wrong order: publish twice, use after cancel, install across fork."""


class FlagError(Error, ValueError):
    """A flag was given where it does not belong, or is not known by name."""


class StaleError(Error):
    """A supervised call is gone: its process died or a signal ended the call.

    Nothing that was learnt about it may be acted on any more.
    """


class TruncatedError(Error):
    """A message lost something on its way in; what did arrive is in ``message``, owned by this error.

    Leaving the ``with`` block of the error closes it. Dropped without that, each descriptor warns.

    Attributes:
        message: the ``fdproof.passing.Message`` with everything that arrived.
        reason: why the rest did not: "limit", the table of this process is full; "room", the peer sent
            more descriptors than were asked for; "refused", a security module or the kernel kept
            something back; "data", the datagram is longer than was asked for.
        came: how many descriptors arrived. It can be more than asked for, and all are owned.
        asked: how many were asked for.
    """

    def __init__(
        self,
        explanation: str,
        message: Any,
        reason: Literal["limit", "room", "refused", "data"],
        *,
        came: int,
        asked: int,
    ) -> None:
        super().__init__(explanation)
        self.message = message
        self.reason = reason
        self.came = came
        self.asked = asked

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a TruncatedError cannot be pickled or copied, because it owns descriptors")

    def close(self) -> None:
        """Close everything that arrived; twice is quiet."""
        self.message.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class UnsupportedError(Error, OSError):
    """The running kernel lacks a feature, or a sandbox refuses it.

    Args:
        feature: what is missing, by its kernel name.
        kernel: the first kernel version that has it, as in ``"5.6"``.
        number: the errno that was seen; ENOSYS if none was.
        remedy: what would help, where it is not a newer kernel.
    """

    def __init__(
        self, feature: str, kernel: str, number: int = errno.ENOSYS, *, remedy: str | None = None
    ) -> None:
        super().__init__(
            number,
            f"{feature} is not available here: "
            + (remedy or f"it needs Linux {kernel} or newer, and no sandbox in the way"),
        )
        self.feature = feature
        self.kernel = kernel
        self._arguments = (feature, kernel, number, remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError would be made again from its errno and message, which are not this one's arguments.
        return _unsupported, self._arguments


def _unsupported(feature: str, kernel: str, number: int, remedy: str | None) -> UnsupportedError:
    return UnsupportedError(feature, kernel, number, remedy=remedy)
