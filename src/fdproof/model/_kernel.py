"""The kernel: what all processes share, and where steps that can fail are made to."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fdproof.model._failure import Misuse, failure
from fdproof.model._in_flight import InFlight
from fdproof.model._process import Process, ProcessTable
from fdproof.model._table import NR_OPEN, SMALLEST
from fdproof.model._task import Task
from fdproof.model._tree import Directory

if TYPE_CHECKING:
    from fdproof.model._file import File
    from fdproof.model._pending import Pending

__all__ = ["Kernel"]


class Kernel:
    """A Linux, as far as descriptors go.

    Nothing in it happens by itself: all is done by the calls of its tasks, one after the other.

    Args:
        nr_open: fs.nr_open, the bound of every table and of every RLIMIT_NOFILE; at least 64.
        file_max: fs.file-max, how many files there may be; root may have more.

    Raises:
        ValueError: ``nr_open`` is below 64.
    """

    def __init__(self, *, nr_open: int = NR_OPEN, file_max: int = 2**63 - 1) -> None:
        self._nr_open = _checked_nr_open(nr_open)
        self.file_max = file_max
        self.fault: Callable[[str, int], bool] | None = None
        """Asked at each step that can fail, with its name and errno: whether it shall fail."""
        self.current: Task | None = None
        """The task whose call is being carried out."""
        self.tasks: dict[int, Task] = {}
        """The threads that run, by number."""
        self.processes: dict[int, Process] = {}
        """Those that run and the zombies, by number."""
        self.tables: dict[ProcessTable, None] = {}
        self.waiting: list[Pending] = []
        """The calls that wait, the oldest first."""
        self.in_flight = InFlight()
        self.root = Directory(mode=0o755)
        self._files: dict[int, File] = {}
        self._last_serial = self._last_pid = 0
        self._dropped: list[File] = []
        self._dropping = False
        self._has_room = False

    @property
    def nr_open(self) -> int:
        """fs.nr_open; lowering it closes nothing, and copies of a table may then fail."""
        return self._nr_open

    @nr_open.setter
    def nr_open(self, value: int) -> None:
        self._nr_open = _checked_nr_open(value)
        for table in self.tables:
            table.nr_open = value

    def spawn(
        self, *, rlimit_nofile: int | None = None, uid: int = 0, gid: int | None = None
    ) -> Task:
        """Start a process with an empty table, a child of nobody in the model.

        Args:
            rlimit_nofile: the soft limit; 1024 unless told, or ``nr_open`` if that is lower, which is
                the hard one.
            uid: who it runs as; 0 has every privilege.
            gid: its group; the same number as ``uid`` unless told.

        Returns:
            Its one thread.

        Raises:
            ValueError: the limit is not from 0 to ``nr_open``.
        """
        soft = min(1024, self.nr_open) if rlimit_nofile is None else rlimit_nofile
        if not 0 <= soft <= self.nr_open:
            raise ValueError(
                f"rlimit_nofile: {soft} is not from 0 to nr_open, which is {self.nr_open}"
            )
        process = Process(
            self,
            None,
            uid=uid,
            gid=uid if gid is None else gid,
            soft=soft,
            hard=self.nr_open,
        )
        return Task(process, ProcessTable(self))

    @property
    def uid(self) -> int:
        """Whose call is being carried out; root, between the calls."""
        return 0 if self.current is None else self.current.uid

    # -- files

    @contextmanager
    def room_for_file(self) -> Iterator[None]:
        """Take the room for one file before it is known what file it will be.

        Yields:
            Nothing. In the block one file is made without being asked about.

        Raises:
            OSError: ENFILE, there are ``file_max`` files, and the task is not root's.
        """
        self._find_room()
        self._has_room = True
        try:
            yield
        finally:
            self._has_room = False

    def enter(self, file: "File") -> int:
        """Count a new file in, and return its serial number.

        Raises:
            OSError: ENFILE, as for ``room_for_file``.
        """
        if not self._has_room:
            self._find_room()
        self._has_room = False
        self._last_serial += 1
        self._files[self._last_serial] = file
        return self._last_serial

    def _find_room(self) -> None:
        self.fallible("alloc_empty_file", errno.ENFILE)
        if len(self._files) >= self.file_max and self.uid != 0:
            raise failure(errno.ENFILE)

    def fput(self, file: "File") -> None:
        """Drop a reference; with the last one the file lets go of everything.

        Raises:
            Misuse: there is no reference left to drop.
        """
        if file.references <= 0:
            raise Misuse(f"{file!r} has no reference left: it was put once too often")
        file.references -= 1
        if file.references:
            return
        # One release may drop further files: one after the other, however long the chain is.
        self._dropped.append(file)
        if self._dropping:
            return
        self._dropping = True
        try:
            while self._dropped:
                self._release(self._dropped.pop(0))
        finally:
            self._dropping = False

    def _release(self, file: "File") -> None:
        for watcher in tuple(file.watchers):
            watcher.file_gone()
        file.watchers.clear()
        file.release()
        del self._files[file.serial]

    def files(self) -> list["File"]:
        """Return all files that there are, the oldest first."""
        return list(self._files.values())

    def holders(self) -> Iterator[tuple[str, "File"]]:
        """Yield (who, file) for each reference that somebody has, apart from calls under way."""
        for table in self.tables:
            for number, file in table.items():
                yield f"descriptor {number}", file
        for holder in self._files.values():
            for file in holder.holds():
                yield repr(holder), file
        for pending in self.waiting:
            if (waited := pending.file) is not None:
                yield repr(pending), waited

    # -- processes

    def new_pid(self) -> int:
        """Return a number that no thread or process had before."""
        self._last_pid += 1
        return self._last_pid

    def reap(self, process: Process) -> None:
        """Take a zombie's status for good: its number means nothing any more."""
        process.reaped = True
        process.leave_handlers()
        for pidfile in tuple(process.pidfiles):
            pidfile.wake(0)
        del self.processes[process.pid]
        if process.mother is not None:
            process.mother.children.remove(process)

    # -- steps that can fail, and calls that wait

    def fallible(self, step: str, number: int) -> None:
        """Pass a step that can fail in Linux for reasons that the model does not have.

        Args:
            step: its name, after the kernel's function.
            number: the errno of its failure.

        Raises:
            OSError: the errno, if ``fault`` says so.
        """
        if self.fault is not None and self.fault(step, number):
            raise failure(number)

    def settle(self) -> None:
        """Try the calls that wait again, the oldest first, until none can go on."""
        moved = True
        while moved:
            moved = any(pending.retry() for pending in tuple(self.waiting))


def _checked_nr_open(value: int) -> int:
    if value < SMALLEST:
        raise ValueError(f"nr_open: {value} is below 64, Linux's own minimum")
    return value
