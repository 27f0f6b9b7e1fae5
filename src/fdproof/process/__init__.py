"""Processes by pidfd: start, prepare, wait, signal, look inside. A pid is for people to read."""

from fdproof.process._order import Options as Options
from fdproof.process._process import Process as Process
from fdproof.process._process import Scope as Scope
from fdproof.process._records import CoreDump as CoreDump
from fdproof.process._records import CoreDumpFlags as CoreDumpFlags
from fdproof.process._records import Ids as Ids
from fdproof.process._records import Info as Info
from fdproof.process._records import Namespace as Namespace
from fdproof.process._run import Completed as Completed
from fdproof.process._run import ExitError as ExitError
from fdproof.process._run import ExpiredError as ExpiredError
from fdproof.process._run import run as run
from fdproof.process._start import Prepared as Prepared
from fdproof.process._start import prepare as prepare
from fdproof.process._start import spawn as spawn
from fdproof.process._stdio import DEVNULL as DEVNULL
from fdproof.process._stdio import PIPE as PIPE
from fdproof.process._stdio import STDOUT as STDOUT
from fdproof.process._stdio import Stdio as Stdio
from fdproof.process._wait import wait_many as wait_many
from fdproof.process._wait import wait_many_async as wait_many_async

# Sorted as the test of public names sorts, which has no place of its own for constants.
__all__ = [  # noqa: RUF022
    "Completed",
    "CoreDump",
    "CoreDumpFlags",
    "DEVNULL",
    "ExitError",
    "ExpiredError",
    "Ids",
    "Info",
    "Namespace",
    "Options",
    "PIPE",
    "Prepared",
    "Process",
    "STDOUT",
    "Scope",
    "Stdio",
    "prepare",
    "run",
    "spawn",
    "wait_many",
    "wait_many_async",
]

for _name in __all__:
    _thing = globals()[_name]
    if getattr(_thing, "__module__", None) not in (__name__, None):
        try:
            _thing.__module__ = __name__
        except (AttributeError, TypeError):
            pass  # aliases and constants have no home of their own
del _name, _thing
