"""Why the kernel refused a message: the same error, with the likely cause and what would help."""

import errno
import os
import resource
from collections.abc import Sequence
from typing import Any

from fdproof._descriptor import Descriptor
from fdproof.passing._records import Credentials

__all__ = ["no_room", "send_refused"]

# KERNEL: SCM_MAX_FD
_MOST_FILES = 253


def no_room(count: int) -> OSError:
    """Return the error for more descriptors than one message carries."""
    return OSError(
        errno.EINVAL,
        f"files: one message carries at most {_MOST_FILES} descriptors, not {count}: send several "
        "messages, or use a Channel, which does",
    )


def send_refused(
    number: int, sock: int, files: Sequence[Any], credentials: Credentials | None, address: Any
) -> OSError:
    """Return the error of a sendmsg.

    Args:
        number: the errno.
        sock: the socket's number.
        files, credentials, address: what was to be sent, and where.
    """
    explain = _CAUSES.get(number)
    why = explain(sock, files, credentials) if explain else None
    if isinstance(address, str) and why is None:
        return OSError(number, os.strerror(number), address)
    return OSError(number, why or os.strerror(number))


def _bad_number(sock: int, files: Sequence[Any], _: Credentials | None) -> str | None:
    for index, file in enumerate(files):
        number = _number(file)
        if not os.path.lexists(f"/proc/self/fd/{number}"):
            return f"files[{index}]: descriptor {number} is not open"
    return f"sock: descriptor {sock} is not open"


def _invalid(_: int, files: Sequence[Any], __: Credentials | None) -> str | None:
    for index, file in enumerate(files):
        number = _number(file)
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target == "anon_inode:[io_uring]":
            return (
                f"files[{index}]: descriptor {number} is an io_uring, which no message carries: let the "
                "receiver make its own"
            )
    return None


def _forbidden(_: int, files: Sequence[Any], credentials: Credentials | None) -> str:
    causes = []
    if credentials is not None:
        causes.append(
            f"this process may not state {credentials}: without CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID "
            "only its own pid and ids"
        )
    if files:
        causes.append(
            "the receiver takes no descriptors (SO_PASSRIGHTS is off there): send them without, or let "
            "the receiver turn it on"
        )
    causes.append("the receiving socket is connected to another one")
    return f"{os.strerror(errno.EPERM)}: " + "; or ".join(causes)


def _in_flight(_: int, files: Sequence[Any], __: Credentials | None) -> str:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        f"too many descriptors of this user are under way, sent and not yet received: more than {limit}, "
        "the limit of open files (RLIMIT_NOFILE) of this process. Let the receivers receive, or raise "
        "the limit (ulimit -n)"
    )


_CAUSES = {
    errno.EBADF: _bad_number,
    errno.EINVAL: _invalid,
    errno.EPERM: _forbidden,
    errno.ETOOMANYREFS: _in_flight,
}


def _number(file: Any) -> int:
    if isinstance(file, Descriptor):
        return -1 if file.closed else file.fileno()
    return int(file) if isinstance(file, int) else int(file.fileno())
