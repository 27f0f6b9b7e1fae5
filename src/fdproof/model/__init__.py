"""The kernel's descriptor protocol as a program: pure Python, no system calls, held equal to Linux."""

from fdproof.model._ancillary import Credentials, Pidfd, Received, Rights
from fdproof.model._calls_waiting import Waited
from fdproof.model._explore import Run, explore
from fdproof.model._failure import Blocked, Misuse
from fdproof.model._file import File
from fdproof.model._inside import Inside, Prepared
from fdproof.model._kernel import Kernel
from fdproof.model._notifier import Notification
from fdproof.model._pending import Pending
from fdproof.model._pidfd import Info
from fdproof.model._process import Process
from fdproof.model._publication_table import PublicationTable
from fdproof.model._report import Failure, Finding, Problem, Report, Step
from fdproof.model._table import Table
from fdproof.model._task import Entry, Task

__all__ = [
    "Blocked",
    "Credentials",
    "Entry",
    "Failure",
    "File",
    "Finding",
    "Info",
    "Inside",
    "Kernel",
    "Misuse",
    "Notification",
    "Pending",
    "Pidfd",
    "Prepared",
    "Problem",
    "Process",
    "PublicationTable",
    "Received",
    "Report",
    "Rights",
    "Run",
    "Step",
    "Table",
    "Task",
    "Waited",
    "explore",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
