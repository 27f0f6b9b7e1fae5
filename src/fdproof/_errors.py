"""The exceptions of fdproof: what the kernel cannot say.

What the kernel says stays an :class:`OSError` with its errno. An exception that
travels with descriptors owns them.
"""

import errno
from typing import Any

__all__ = [
    "ClosedError",
    "Error",
    "FlagError",
    "StaleError",
    "StateError",
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
