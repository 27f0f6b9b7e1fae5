"""Why a message lost something on its way in, and what would help."""

import errno
import os
import resource
import socket
from typing import Literal

from fdproof._errors import TruncatedError
from fdproof.passing._message import Message

__all__ = ["truncated"]

Reason = Literal["limit", "room", "refused", "data"]


def truncated(
    message: Message,
    *,
    asked: int,
    stopped: bool,
    table_full: bool,
    refused: int,
    refused_process: int,
) -> TruncatedError:
    """Return the error that owns a message of which something is missing.

    Args:
        message: what arrived.
        asked: how many descriptors were asked for.
        stopped: the kernel kept descriptors back for which there was room.
        table_full: there was no free number for them.
        refused: the errno that the kernel put in the place of a descriptor, or 0.
        refused_process: the errno that the kernel put in the place of the sender's pidfd, or 0.
    """
    came = len(message.files)
    # The first is the reason; the others are told as well.
    found: list[tuple[Reason, str]] = []
    if stopped and table_full:
        found.append(("limit", f"{_arrived(came)}, then {_full_table()}"))
    elif stopped or refused:
        found.append(("refused", f"{_arrived(came)}; {_refusal(refused)}"))
    if came > asked:
        found.append(("room", _room(came, asked)))
    if refused_process == errno.EMFILE:
        found.append(("limit", f"there is no pidfd of the sender, because {_full_table()}"))
    elif refused_process:
        found.append(
            ("refused", f"there is no pidfd of the sender: {_no_process(refused_process)}")
        )
    if message.flags & socket.MSG_TRUNC:
        found.append(("data", _longer(len(message.data))))
    return TruncatedError(
        ". ".join(text[0].upper() + text[1:] for _, text in found),
        message,
        found[0][0],
        came=came,
        asked=asked,
    )


def _arrived(came: int) -> str:
    return f"only {came} of the descriptors that the peer sent arrived"


def _full_table() -> str:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        f"the table of this process was full (EMFILE; the limit of open files, RLIMIT_NOFILE, is {limit}): "
        "close what is no longer needed, or raise the limit (ulimit -n)"
    )


def _refusal(number: int) -> str:
    if number:
        return f"the kernel refused one ({os.strerror(number)}): a security module forbids it"
    return (
        "the kernel refused the next, though there was room and a free number: a security module "
        "forbids it, or the table was full for a moment"
    )


def _room(came: int, asked: int) -> str:
    return (
        f"the peer sent more descriptors than were asked for: {came} arrived with max_files={asked}, and "
        "those for which there was no room did not: raise max_files (one message carries at most 253), "
        "or do not serve this peer"
    )


def _no_process(number: int) -> str:
    if number in (errno.ESRCH, errno.EINVAL):
        return "it was reaped before its message was received, which needs Linux 6.16"
    return os.strerror(number)


def _longer(length: int) -> str:
    return f"the datagram is longer than max_bytes={length}, and its end is lost: raise max_bytes"
