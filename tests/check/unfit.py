"""Operations that cannot be checked as they are given, or not wholly, each for its own reason."""

import os
import threading
from pathlib import Path

number = 3


def needs(path: str, *, mode: int, optional: int = 0) -> None: ...


def fails() -> None:
    raise LookupError("not today")


def fails_without_a_word() -> None:
    raise LookupError


def never_ends() -> None:
    threading.Event().wait()


def leaves() -> None:
    os._exit(3)


def is_killed() -> None:
    os.kill(os.getpid(), 9)


def exits() -> None:
    raise SystemExit(4)


def runs_so_far() -> int:
    """How often this was called before, in all processes; always the same system calls."""
    count = Path(os.environ["OPERATION_DIRECTORY"]) / "count"
    with open(count, "a+b", buffering=0) as file:
        file.write(b".")
        return file.tell() - 1


def differs() -> None:
    if runs_so_far() % 2:
        os.close(os.eventfd(0))


def ends_only_once() -> None:
    """Well when it is warmed up, then no more."""
    if runs_so_far():
        threading.Event().wait()


def succeeds_only_once() -> None:
    if runs_so_far():
        raise LookupError("not again")


def vanishing_point() -> None:
    """The event is made while the operation is recorded (three times), and not in a run with a fault."""
    if runs_so_far() < 3:
        os.close(os.eventfd(0))


class NotAFunction:
    def __call__(self) -> None: ...
