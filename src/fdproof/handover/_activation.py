"""Socket activation: take over the descriptors that a service manager started this process with."""

import os
from collections.abc import Mapping

from fdproof._descriptor import Descriptor
from fdproof._errors import UnsupportedError
from fdproof.handover._handed import Handed
from fdproof.handover._inherited import adopt
from fdproof.process._info import has_identity
from fdproof.process._opening import open_pidfd

__all__ = ["FIRST", "VARIABLES", "listeners"]

# The number of the first descriptor that is handed over (SD_LISTEN_FDS_START).
FIRST = 3
VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES")

# Of those without a name, as systemd calls them.
_NAMELESS = "unknown"
_MOST = 2**31 - 1 - FIRST

# Processes whose descriptors were taken: this one, and those that it was forked from.
_taken_by: set[int] = set()


def listeners(*, keep_environment: bool = False) -> Handed:
    """Take the descriptors that systemd, or whatever started this process like it, handed over.

    They are those from number 3 on that the environment announces: sockets that listen, and what a
    descriptor store kept. Each gets its owner and close-on-exec. A second call finds none. Call it
    before anything may have closed one of them.

    Args:
        keep_environment: leave the variables as they are. Otherwise they are removed, so that no child
            can take them for its own.

    Returns:
        The Handed, which owns the descriptors: empty if there are none, or if they are for another
        process.

    Raises:
        ValueError: a variable cannot be; the message names it. Nothing was taken.
        OSError: EBADF, an announced descriptor is not open, or is close-on-exec, so that it cannot be
            what this program was started with. Nothing was taken.

    Kernel: LISTEN_PIDFDID is checked where each process has a pidfd inode of its own (6.9).
    """
    environment = os.environ
    owners: list[Descriptor] = []
    names: list[str] = []
    if os.getpid() not in _taken_by and _for_this_process(environment):
        count = _number(environment, "LISTEN_FDS", 0, _MOST)
        given = _names(environment, count)
        owners = _adopt(count)
        # Only now is it known that there are so many.
        names = [_NAMELESS] * count if given is None else given
        _taken_by.add(os.getpid())
    if not keep_environment:
        for variable in VARIABLES:
            environment.pop(variable, None)
    return Handed(names, owners)


def _for_this_process(environment: Mapping[str, str]) -> bool:
    if "LISTEN_PID" not in environment or "LISTEN_FDS" not in environment:
        return False
    if _number(environment, "LISTEN_PID", 1, 2**31 - 1) != os.getpid():
        return False
    if "LISTEN_PIDFDID" not in environment:
        return True
    announced = _number(environment, "LISTEN_PIDFDID", 0, 2**64 - 1)
    try:
        with open_pidfd(os.getpid()) as me:
            # Before pidfs all pidfds have one inode, which says nothing.
            return not has_identity(me) or os.fstat(me.fileno()).st_ino == announced
    except UnsupportedError:
        return True


def _names(environment: Mapping[str, str], count: int) -> list[str] | None:
    text = environment.get("LISTEN_FDNAMES")
    if text is None:
        return None
    names = text.split(":") if count or text else []
    if len(names) != count:
        raise ValueError(
            f"LISTEN_FDNAMES: {text!r} has {len(names)} names for {count} descriptors (LISTEN_FDS)"
        )
    return names


def _adopt(count: int) -> list[Descriptor]:
    try:
        return adopt(FIRST, count)
    except OSError as error:
        raise OSError(
            error.errno, f"LISTEN_FDS: announces {count} from {FIRST} on, but {error.strerror}"
        ) from None


def _number(environment: Mapping[str, str], variable: str, low: int, high: int) -> int:
    text = environment[variable]
    # Not everything that int() takes: no sign, no space, no digits of other scripts.
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise ValueError(f"{variable}: {text!r} is not a number between {low} and {high}")
    return int(text)
