"""Tasks: threads, whose methods are the system calls."""

from functools import cached_property
from typing import NamedTuple

from fdproof.model._calls_descriptors import DescriptorCalls
from fdproof.model._calls_events import EventCalls
from fdproof.model._calls_files import FileCalls
from fdproof.model._calls_pidfds import PidfdCalls
from fdproof.model._calls_processes import ProcessCalls
from fdproof.model._calls_rings import RingCalls
from fdproof.model._calls_sockets import SocketCalls
from fdproof.model._calls_supervision import SupervisionCalls
from fdproof.model._calls_waiting import WaitingCalls
from fdproof.model._inside import Inside
from fdproof.model._publication_table import PublicationTable

__all__ = ["Entry", "Task"]


class Entry(NamedTuple):
    """What a table says of an open number.

    Args:
        file: a number for the file behind it: equal if, and only if, it is the same file.
        cloexec: whether the descriptor is closed by execve.
    """

    file: int
    cloexec: bool


class Task(
    DescriptorCalls,
    FileCalls,
    SocketCalls,
    EventCalls,
    ProcessCalls,
    PidfdCalls,
    WaitingCalls,
    SupervisionCalls,
    RingCalls,
):
    """A thread. Its methods are named and shaped like the system calls.

    They raise OSError with Linux's errno, for the first reason that Linux would find; and
    ``Blocked`` where the call would wait, having changed nothing. All threads of a process share its
    limits; which tasks share a table is decided when they are cloned.

    Tasks come from ``Kernel.spawn``, ``fork`` and ``clone``.
    """

    @cached_property
    def inside(self) -> Inside:
        """The kernel's side of this task's calls."""
        return Inside(self)

    def publication_table(self) -> PublicationTable:
        """Return the table as fdproof's patterns use one: ``fdproof.add(build, table=...)``."""
        return PublicationTable(self)

    def table(self) -> dict[int, Entry]:
        """Return what is open, by ascending number."""
        files = self.files
        return {
            number: Entry(file.serial, files.close_on_exec(number))
            for number, file in files.items()
        }

    def __repr__(self) -> str:
        return f"<task {self.pid}{' (ended)' if self.ended else ''}>"
