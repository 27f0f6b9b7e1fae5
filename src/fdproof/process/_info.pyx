"""Look into a process by its pidfd: what the kernel says of it, its namespaces, its descriptors."""

from fdproof._descriptor cimport Descriptor, bounded
from fdproof._syscalls cimport failed, fdp_pidfd_getfd
from fdproof.process._pidfd cimport *

import os

from fdproof._errors import UnsupportedError
from fdproof.process._records import CoreDump, CoreDumpFlags, Ids, Info, Namespace

__all__ = ["fetch", "has_identity", "info", "namespace"]

# KERNEL: the numbers of the ioctls are in the order of the names.
_CODES = {kind: code for code, kind in enumerate(Namespace, 1)}


def info(Descriptor pidfd not None):
    """Ask for everything that PIDFD_GET_INFO says.

    Raises:
        ProcessLookupError: it was reaped, and the kernel (before 6.15) kept nothing of it.
        UnsupportedError: before Linux 6.13.
    """
    cdef fdp_pidfd_info raw
    cdef int number = pidfd._held()
    cdef int result = fdp_get_info(
        number, &raw,
        FDP_INFO_PID | FDP_INFO_CREDENTIALS | FDP_INFO_CGROUP | FDP_INFO_EXIT
        | FDP_INFO_CORE_DUMP | FDP_INFO_CORE_SIGNAL | FDP_INFO_CORE_CODE,
    )
    if result == -ENOTTY or result == -EINVAL:
        raise UnsupportedError("PIDFD_GET_INFO", "6.13", -result)
    if result < 0:
        failed(-result)
    has_pid = raw.mask & FDP_INFO_PID and raw.pid
    has_ids = raw.mask & FDP_INFO_CREDENTIALS
    return Info(
        pid=raw.pid if has_pid else None,
        process=raw.tgid if has_pid else None,
        parent=raw.ppid if has_pid else None,
        user=Ids(raw.ruid, raw.euid, raw.suid, raw.fsuid) if has_ids else None,
        group=Ids(raw.rgid, raw.egid, raw.sgid, raw.fsgid) if has_ids else None,
        cgroup=raw.cgroup if raw.mask & FDP_INFO_CGROUP else None,
        returncode=_returncode(raw.exit_code) if raw.mask & FDP_INFO_EXIT else None,
        core_dump=CoreDump(
            CoreDumpFlags(raw.coredump_mask),
            raw.coredump_signal if raw.mask & FDP_INFO_CORE_SIGNAL else None,
            raw.coredump_code if raw.mask & FDP_INFO_CORE_CODE else None,
        ) if raw.mask & FDP_INFO_CORE_DUMP and raw.coredump_mask else None,
    )


cdef object _returncode(int status):
    return os.waitstatus_to_exitcode(status)


def namespace(Descriptor pidfd not None, kind):
    """Open a namespace of the process (PIDFD_GET_*_NAMESPACE).

    Raises:
        UnsupportedError: before Linux 6.11; the caller has another way.
        OSError: ESRCH, EACCES, EOPNOTSUPP, EMFILE.
    """
    cdef unsigned int code = _CODES[kind]
    cdef int number = pidfd._held()
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result = fdp_pidfd_namespace(number, code)
    if result == -ENOTTY or result == -EINVAL:
        raise UnsupportedError("PIDFD_GET_*_NAMESPACE", "6.11", -result)
    if result < 0:
        failed(-result)
    owner._number = result
    return owner


def fetch(Descriptor pidfd not None, number):
    """Take a duplicate of a descriptor of the process (pidfd_getfd); close-on-exec.

    Raises:
        UnsupportedError: before Linux 5.6.
        OSError: EPERM, unexplained; EBADF, it is not open there; ESRCH; EMFILE.
    """
    cdef int target = bounded(number, "number", 0, 0x7fffffff)
    cdef int held = pidfd._held()
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result = fdp_pidfd_getfd(held, target, 0)
    if result == -ENOSYS:
        raise UnsupportedError("pidfd_getfd", "5.6")
    if result < 0:
        failed(-result)
    owner._number = result
    return owner


def has_identity(Descriptor pidfd not None):
    """Tell whether equal inodes of pidfds mean equal processes (6.9)."""
    cdef int result = fdp_is_on_pidfs(pidfd._held())
    if result < 0:
        failed(-result)
    return result == 1
