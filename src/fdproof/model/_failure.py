"""How calls of the model end where they do not return: an errno, a wait, or a mistake of the caller's."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fdproof.model._file import File

__all__ = ["Blocked", "Misuse", "failure"]


class Misuse(Exception):  # noqa: N818  # it says what was done, not that something failed
    """The kernel's side of the protocol was broken: what would corrupt or leak in Linux.

    Programs cannot cause it by system calls. It says what was done, and what is right instead.
    """


class Blocked(Exception):  # noqa: N818  # a state of the call, not an error
    """The call would wait, and nothing that happens by itself would end the wait.

    It has changed nothing. Use ``begin`` for calls that wait.
    """

    def __init__(self) -> None:
        super().__init__("the call would wait: begin() starts calls that wait")
        self._file: File | None = None
        self.resume: Callable[[], Any] | None = None

    def hold(self, file: "File", resume: Callable[[], Any]) -> None:
        """Take over a reference, and what is tried again when something has happened."""
        # OWNERSHIP: the first one is the call's own; one that a second try raises has none.
        self._file, self.resume = file, resume

    def abandon(self) -> None:
        """Drop the reference; the call will not be tried again."""
        file, self._file = self._file, None
        if file is not None:
            file.kernel.fput(file)


def failure(number: int) -> OSError:
    """Return the OSError for an errno, for a ``raise`` to follow."""
    return OSError(number, os.strerror(number))
