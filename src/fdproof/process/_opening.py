"""What an error of pidfd_open means: absent, refused or gone. The one place that decides it."""

import errno

from fdproof._creating import pidfd
from fdproof._descriptor import Descriptor
from fdproof._errors import UnsupportedError

__all__ = ["open_pidfd"]

# KERNEL: pidfd_open itself never says EPERM; the system-call filters of older containers do.
_ABSENT = (errno.ENOSYS, errno.EPERM)
_IS_THREAD = (errno.ENOENT, errno.EINVAL)


def open_pidfd(pid: int) -> Descriptor:
    """Open a pidfd of somebody else's process.

    Returns:
        The descriptor's owner.

    Raises:
        UnsupportedError: absent: before Linux 5.3, or a sandbox forbids the call.
        ProcessLookupError: gone: there is no process with this number (any more). Also for the number
            of a thread, which is said.
        OSError: refused: EMFILE, ENFILE, ENOMEM, ENODEV. Trying again later can help.

    Kernel: pidfd_open(2) (5.3).
    """
    try:
        return pidfd(pid)
    except UnsupportedError:
        raise
    except OSError as error:
        if error.errno in _ABSENT:
            raise UnsupportedError("pidfd_open", "5.3", error.errno) from None
        if error.errno == errno.ESRCH:
            raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}") from None
        if error.errno in _IS_THREAD:
            # KERNEL: a thread's number is ENOENT since 6.16 and EINVAL before, where EINVAL can also
            # mean a process that is going away at this moment.
            raise ProcessLookupError(errno.ESRCH, _no_process(pid)) from None
        raise


def _no_process(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as lines:
            process = next(int(line[5:]) for line in lines if line.startswith("Tgid:"))
    except (OSError, StopIteration, ValueError):
        return f"there is no process {pid} any more"
    if process == pid:
        return f"process {pid} is going away"
    return f"{pid} is not a process but a thread of process {process}"
