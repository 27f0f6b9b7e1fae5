"""A task's table, as fdproof's patterns of publication use one: reserve, prepare, add, receive."""

import enum
import errno
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fdproof.model._failure import Misuse, failure
from fdproof.model._file import File

if TYPE_CHECKING:
    from fdproof.model._task import Task

__all__ = ["PublicationSlot", "PublicationTable"]


class PublicationSlot:
    """A number of a task's table that is reserved.

    Args:
        task: whose table.
        number: the number.
    """

    def __init__(self, task: "Task", number: int) -> None:
        self._task = task
        self.number: int | None = number

    def make_room(self) -> None:
        """Do nothing: a file has no number here before it is installed."""

    def check(self) -> int:
        """Return the number, if it is still reserved.

        Raises:
            Misuse: somebody else gave it back, or used it.
        """
        if self.number is None or not self._task.files.is_reserved(self.number):
            raise Misuse(
                f"{self.number} was taken from its reservation: only its owner gives it back"
            )
        return self.number

    def install(self, file: File) -> int:
        """Put the file in, and return its number; the slot has the reference then.

        Raises:
            Misuse: the number is not reserved any more; the reference is still the caller's.
        """
        number = self.check()
        self.number = None
        self._task.fd_install(number, file)
        return number

    def cancel(self) -> None:
        """Give the number back; twice is quiet."""
        number, self.number = self.number, None
        if number is not None and self._task.files.is_reserved(number):
            self._task.put_unused_fd(number)

    def __del__(self) -> None:
        self.cancel()


class PublicationTable:
    """The table of a task, for ``fdproof.reserve(table=...)`` and the other patterns.

    A build makes a ``File``, whose first reference it gives away; what a publish returns is the
    number. Here a reserved slot is empty, as in the kernel: no placeholder is needed.

    Args:
        task: whose table.
    """

    def __init__(self, task: "Task") -> None:
        self._task = task

    def reserve(self, *, at: int | None, at_least: int, flags: enum.Flag) -> PublicationSlot:
        """Take a number with nothing behind it.

        Args:
            at: exactly this number, or None for any.
            at_least: the lowest number wanted, where ``at`` is None.
            flags: O_CLOEXEC or nothing.

        Raises:
            OSError: EMFILE, no number is free; EBUSY, ``at`` is open or reserved; EINVAL, beyond
                RLIMIT_NOFILE.
        """
        task = self._task
        wanted = at_least if at is None else at
        if not 0 <= wanted < task.rlimit_nofile:
            raise failure(errno.EINVAL)
        number = task.get_unused_fd_flags(int(flags.value) & os.O_CLOEXEC, wanted)
        if at is not None and number != at:
            task.put_unused_fd(number)
            raise failure(errno.EBUSY)
        return PublicationSlot(task, number)

    def adopt(self, built: object) -> File:
        """Take over the reference to what a build returned.

        Raises:
            TypeError: it is no File.
        """
        if not isinstance(built, File):
            raise TypeError(f"{built!r} is no file of the model: a build returns a model.File")
        return built

    def discard(self, file: File) -> None:
        """Drop the reference to a file that was built and is not published."""
        self._task.kernel.fput(file)

    def install_all(self, slots: Sequence[Any], files: Sequence[File]) -> list[int]:
        """Install several, in order, after checking all.

        Args:
            slots: what ``reserve`` returned; untyped, so that the table is one of ``fdproof.Table``.
            files: one for each.

        Raises:
            Misuse: a number is not reserved any more; nothing was installed.
        """
        for slot in slots:
            slot.check()
        return [slot.install(file) for slot, file in zip(slots, files, strict=True)]

    def receive(self, file: File | int, *, at: int | None, at_least: int, flags: enum.Flag) -> int:
        """Give a number to a file that exists, with a reference of its own.

        Args:
            file: a file, or a number of the task's.
            at, at_least, flags: as for ``reserve``.

        Raises:
            OSError: EBADF, the number is not open; otherwise as ``reserve``.
        """
        task = self._task
        if isinstance(file, int):
            file = task.fget_raw(file)
        else:
            file = self.adopt(file)
            file.references += 1
        try:
            slot = self.reserve(at=at, at_least=at_least, flags=flags)
        except OSError:
            task.kernel.fput(file)
            raise
        return slot.install(file)
