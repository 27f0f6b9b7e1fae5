"""The tables that one suite runs over: what a test does to each, in the same words."""

import os
from collections.abc import Callable
from typing import Any, Protocol

import fdproof
from fdproof import Descriptor, StateError, model, own_table
from tests.core import own_table as kernel


class Subject(Protocol):
    """One table under test."""

    table: Any

    taken: type[Exception]
    """What a publish raises whose number was taken away."""

    def file(self) -> Any:
        """Build a new file."""

    def state(self) -> Any:
        """Everything that a failed operation must leave as it was."""

    def identity(self, published: Any) -> object:
        """Which file a published descriptor refers to."""

    def number(self, published: Any) -> int: ...

    def close_on_exec(self, published: Any) -> bool: ...

    def held(self, number: int) -> bool:
        """Whether ``number`` is taken, but nothing can be done with it."""

    def lowest_free(self, start: int = 0) -> int: ...

    def steal(self, number: int) -> None:
        """Close a number behind its owner's back."""

    def close(self, published: Any) -> None: ...


class Own:
    """This process's table."""

    table = own_table
    taken: type[Exception] = StateError

    def file(self) -> Descriptor:
        return fdproof.memfd("built")

    def state(self) -> object:
        return kernel.table()

    def identity(self, published: Descriptor) -> object:
        status = os.fstat(published.fileno())
        return status.st_dev, status.st_ino

    def number(self, published: Descriptor) -> int:
        return published.fileno()

    def close_on_exec(self, published: Descriptor) -> bool:
        return not published.inheritable

    def held(self, number: int) -> bool:
        try:
            os.read(number, 1)
        except OSError:
            return kernel.entry(number) is not None
        return False

    def lowest_free(self, start: int = 0) -> int:
        return kernel.lowest_free(start)

    def steal(self, number: int) -> None:
        os.close(number)

    def close(self, published: Descriptor) -> None:
        published.close()


class RecordingTable(model.PublicationTable):
    """The table of a task, which notes the files that it owned before their publish."""

    def __init__(self, task: model.Task) -> None:
        super().__init__(task)
        self.adopted: list[model.File] = []

    def adopt(self, built: object) -> model.File:
        self.adopted.append(super().adopt(built))
        return self.adopted[-1]


class Model:
    """The table of a task of the model."""

    taken: type[Exception] = model.Misuse

    def __init__(self) -> None:
        self.kernel = model.Kernel()
        self.task = self.kernel.spawn()
        self.table = RecordingTable(self.task)
        for number in (0, 1, 2, 5):
            self.task.dup2(self.task.memfd_create(), number)
        self.task.close_range(3, 4)

    def file(self) -> model.File:
        return model.File(self.kernel, os.O_RDWR)

    def state(self) -> object:
        # A file that was refused before anybody owned it is its maker's business.
        owned = {(file.serial, file.references) for file in self.table.adopted if file.references}
        return self.task.table(), self.task.files.reserved(), owned

    def identity(self, published: int) -> object:
        return self.task.files.lookup(published)

    def number(self, published: int) -> int:
        return published

    def close_on_exec(self, published: int) -> bool:
        return self.task.table()[published].cloexec

    def held(self, number: int) -> bool:
        return self.task.files.is_reserved(number)

    def lowest_free(self, start: int = 0) -> int:
        taken = {*self.task.table(), *self.task.files.reserved()}
        return next(number for number in range(start, 1000) if number not in taken)

    def steal(self, number: int) -> None:
        # No system call can: a reserved number is a bad descriptor to all of them.
        self.task.put_unused_fd(number)

    def close(self, published: int) -> None:
        self.task.close(published)


SUBJECTS: dict[str, Callable[[], Subject]] = {"own": Own, "model": Model}
