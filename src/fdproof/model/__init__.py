"""The kernel's descriptor protocol as a program: pure Python, no system calls, held equal to Linux."""

from fdproof.model._explore import Run, explore
from fdproof.model._failure import Blocked, Misuse
from fdproof.model._file import File
from fdproof.model._kernel import Kernel
from fdproof.model._pending import Pending
from fdproof.model._process import Process
from fdproof.model._report import Failure, Finding, Problem, Report, Step
from fdproof.model._table import Table
from fdproof.model._task import Entry, Task

__all__ = [
    "Blocked",
    "Entry",
    "Failure",
    "File",
    "Finding",
    "Kernel",
    "Misuse",
    "Pending",
    "Problem",
    "Process",
    "Report",
    "Run",
    "Step",
    "Table",
    "Task",
    "explore",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
