"""What the kernel says about a process: frozen records."""

from dataclasses import dataclass
from enum import Enum, IntFlag

__all__ = ["CoreDump", "CoreDumpFlags", "Ids", "Info", "Namespace"]


@dataclass(frozen=True, slots=True)
class Ids:
    """The four user or group ids of a process."""

    real: int
    effective: int
    saved: int
    filesystem: int


class CoreDumpFlags(IntFlag):
    """What became of a process's memory when it ended (``PIDFD_COREDUMP_*``).

    Of a running process they say what would: USER, it is dumpable; ROOT, only for root; SKIPPED, not.
    """

    DUMPED = 1
    SKIPPED = 2
    USER = 4
    ROOT = 8


@dataclass(frozen=True, slots=True)
class CoreDump:
    """The core dump of a process; ``signal`` and ``code`` are None where the kernel says nothing.

    After the end the kernel tells only of dumps that went to a pipe or a socket (core_pattern(5)).
    """

    flags: CoreDumpFlags
    signal: int | None
    code: int | None


@dataclass(frozen=True, slots=True)
class Info:
    """What the kernel says about a process at one moment; None where it says nothing.

    Of a reaped process ``returncode``, ``core_dump`` and ``cgroup`` are left; the first two are known only
    then.
    ``process`` differs from ``pid`` for a pidfd of a thread. All numbers are those of the caller's
    namespaces; ``parent`` is 0 when it is outside.
    """

    pid: int | None = None
    process: int | None = None
    parent: int | None = None
    user: Ids | None = None
    group: Ids | None = None
    cgroup: int | None = None
    returncode: int | None = None
    core_dump: CoreDump | None = None


class Namespace(Enum):
    """The kinds of namespaces; the values are the names in ``/proc/<pid>/ns``."""

    CGROUP = "cgroup"
    IPC = "ipc"
    MOUNT = "mnt"
    NETWORK = "net"
    PID = "pid"
    PID_FOR_CHILDREN = "pid_for_children"
    TIME = "time"
    TIME_FOR_CHILDREN = "time_for_children"
    USER = "user"
    UTS = "uts"
