"""Which system calls a check supervises: those it can make fail, and those it must see."""

import functools
import os

from fdproof.check import errnos
from fdproof.notifier import Condition, Filter, Rule
from fdproof.notifier._libseccomp import name_of, number_of

__all__ = [
    "BEGIN",
    "COLLECTED",
    "END",
    "MARK",
    "SOMETHING_LEFT",
    "asks_to_survive",
    "filter_for",
    "watched_for",
]

# What a forked target tells its supervisor, by the call that does nothing (notifier's mark).
BEGIN, END, COLLECTED = 1, 2, 3
# What the supervisor replies to END: collecting garbage costs a fifth of a run, so only for a reason.
SOMETHING_LEFT = 1
MARK = "close_range"
_EXECS = ("execve", "execveat")
_EXIT = "exit_group"
# They put a file at a chosen number, and so ask for it to survive an exec.
_PLACING = ("dup2", "dup3")

_F_SETFD = 2
_FD_CLOEXEC = 1
_FIONCLEX = 0x5450
_WORD = 0xFFFFFFFF


@functools.cache
def filter_for(command: bool, only: str | None = None) -> Filter:
    """Return the filter for an operation: everything that is not judged runs untouched.

    Args:
        command: the exit of the program is judged, too.
        only: the one system call that is to fail; None for all that can.
    """
    rules: list[Rule | str] = list(_EXECS)
    if command:
        rules.append(_EXIT)
    for name in errnos.names():
        if only is not None and name not in (only, *_PLACING):
            continue
        entries = [call for call in errnos.CALLS if call.name == name]
        if any(not call.when for call in entries):
            rules.append(name)
            continue
        rules.extend(Rule(name, call.when) for call in entries)
    # Never made to fail, but it asks for a descriptor to survive an exec.
    rules.append(Rule("fcntl", (Condition(1, _WORD, _F_SETFD),)))
    if only is not None and only != "ioctl":
        rules.append(Rule("ioctl", (Condition(1, _WORD, _FIONCLEX),)))
    return Filter(rules)


@functools.cache
def watched_for(command: bool) -> tuple[int, ...]:
    """Return the numbers of the calls that always stop the supervisor's loop."""
    names = (*_EXECS, MARK, *((_EXIT,) if command else ()))
    return tuple(number for name in names if (number := number_of(name)) is not None)


def asks_to_survive(call: int, arguments: tuple[int, ...]) -> int | None:
    """Return the descriptor that a call asks to keep open over an exec, if it does so explicitly.

    Clearing close-on-exec does, and so does placing a file at a chosen number.
    """
    match name_of(call):
        case "fcntl" if arguments[1] & _WORD == _F_SETFD and not arguments[2] & _FD_CLOEXEC:
            return arguments[0] & _WORD
        case "ioctl" if arguments[1] & _WORD == _FIONCLEX:
            return arguments[0] & _WORD
        case "dup2":
            return arguments[1] & _WORD
        case "dup3" if not arguments[2] & os.O_CLOEXEC:
            return arguments[1] & _WORD
    return None
