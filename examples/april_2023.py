"""The ways to hand out a descriptor that were argued over in April 2023, each walked through every failure.

    python examples/april_2023.py           a table of all of them
    python examples/april_2023.py NAME      one of them: its shortest failing schedule

Each way is the body of one system call, written on the model's inside functions, which have the kernel's
names. The call makes a file, gives it a number, writes the number to the caller's memory and returns 0. Three
of its steps can fail: the number, the file, the copy to the caller's memory.
"""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Self

from fdproof.model import File, Problem, Report, Run, Task, explore

NUMBER = os.O_CLOEXEC
FILE = os.O_RDWR


class Call:
    """A system call under way: the kernel's functions, and the caller's memory, a word for the number."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.kernel = task.inside
        self.memory: int | None = None
        # What delayed_dup() has left for the way out.
        self.delayed: list[tuple[int, File]] = []

    def copy_out(self, number: int) -> None:
        self.kernel.copy_to_user(number)
        self.memory = number


# -- by hand: get_unused_fd_flags, anon_inode_getfile, fd_install


def by_hand(call: Call) -> int:
    """Each exit undoes what has been done so far; nobody but the author checks that it does."""
    kernel = call.kernel
    number = kernel.get_unused_fd_flags(NUMBER)
    try:
        file = kernel.anon_inode_getfile("[x]", FILE)
    except OSError:
        kernel.put_unused_fd(number)
        raise
    try:
        call.copy_out(number)
    except OSError:
        kernel.fput(file)
        kernel.put_unused_fd(number)
        raise
    kernel.fd_install(number, file)
    return 0


def by_hand_forgetful(call: Call) -> int:
    """The same with one line missing, as in many a driver."""
    kernel = call.kernel
    number = kernel.get_unused_fd_flags(NUMBER)
    try:
        file = kernel.anon_inode_getfile("[x]", FILE)
    except OSError:
        kernel.put_unused_fd(number)
        raise
    try:
        call.copy_out(number)
    except OSError:
        kernel.put_unused_fd(number)
        raise
    kernel.fd_install(number, file)
    return 0


# -- published before the copy, and taken back


def install_first(call: Call) -> int:
    """Installs, then copies; on failure gives back a number and a file that are not its own any more."""
    kernel = call.kernel
    number = kernel.get_unused_fd_flags(NUMBER)
    try:
        file = kernel.anon_inode_getfile("[x]", FILE)
    except OSError:
        kernel.put_unused_fd(number)
        raise
    kernel.fd_install(number, file)
    try:
        call.copy_out(number)
    except OSError:
        kernel.fput(file)
        kernel.put_unused_fd(number)
        raise
    return 0


def install_and_close(call: Call) -> int:
    """Installs, then copies; on failure closes the number, whoever has it by then."""
    kernel = call.kernel
    number = kernel.get_unused_fd_flags(NUMBER)
    try:
        file = kernel.anon_inode_getfile("[x]", FILE)
    except OSError:
        kernel.put_unused_fd(number)
        raise
    kernel.fd_install(number, file)
    try:
        call.copy_out(number)
    except OSError:
        call.task.close(number)
        raise
    return 0


# -- Brauner, 25 April: a struct of both


class FdFile:
    """struct fd_file: both, and the file says whether they are there."""

    def __init__(self) -> None:
        self.number = -1
        self.file: File | None = None


def fd_publish(call: Call, both: FdFile) -> None:
    if both.file is not None:
        call.kernel.fd_install(both.number, both.file)


def fd_discard(call: Call, both: FdFile) -> None:
    if both.file is not None:
        call.kernel.fput(both.file)
        call.kernel.put_unused_fd(both.number)


def fd_publish_user(call: Call, both: FdFile) -> int:
    """The optional form that copies the number out, too. It returns 0, come what may."""
    try:
        call.copy_out(both.number)
    except OSError:
        fd_discard(call, both)
    else:
        fd_publish(call, both)
    return 0


def struct(call: Call) -> int:
    both = FdFile()
    both.number = call.kernel.get_unused_fd_flags(NUMBER)
    try:
        both.file = call.kernel.anon_inode_getfile("[x]", FILE)
    except OSError:
        # Filled by half: the file decides, and there is none.
        fd_discard(call, both)
        raise
    try:
        call.copy_out(both.number)
    except OSError:
        fd_discard(call, both)
        raise
    fd_publish(call, both)
    return 0


def struct_user(call: Call) -> int:
    both = FdFile()
    both.number = call.kernel.get_unused_fd_flags(NUMBER)
    try:
        both.file = call.kernel.anon_inode_getfile("[x]", FILE)
    except OSError:
        call.kernel.put_unused_fd(both.number)
        raise
    return fd_publish_user(call, both)


# -- Viro: the number alone is guarded, and taken early; the file is made as late as can be


class UnusedFd:
    """CLASS(get_unused_fd): owns a number, gives it back at the end of the scope."""

    def __init__(self, call: Call) -> None:
        self.kernel = call.kernel
        self.number = call.kernel.get_unused_fd_flags(NUMBER)

    def take(self) -> int:
        number, self.number = self.number, -errno.EBADF
        return number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        if self.number >= 0:
            self.kernel.put_unused_fd(self.number)


def reserve_early(call: Call) -> int:
    with UnusedFd(call) as fd:
        # The copy can fail, and comes before there is a file that would have to go again.
        call.copy_out(fd.number)
        file = call.kernel.anon_inode_getfile("[x]", FILE)
        call.kernel.fd_install(fd.number, file)
        fd.take()
    return 0


def reserve_early_not_taken(call: Call) -> int:
    """The same, and take_fd() forgotten: the end of the scope gives back a number that is open."""
    with UnusedFd(call) as fd:
        call.copy_out(fd.number)
        file = call.kernel.anon_inode_getfile("[x]", FILE)
        call.kernel.fd_install(fd.number, file)
    return 0


def delayed_dup(call: Call, file: File) -> int:
    """Reserve now; the way out of the call installs, if it succeeds. Takes the file over either way."""
    try:
        number = call.kernel.get_unused_fd_flags(NUMBER)
    except OSError:
        call.kernel.fput(file)
        raise
    call.delayed.append((number, file))
    return number


def delayed(call: Call) -> int:
    number = delayed_dup(call, call.kernel.anon_inode_getfile("[x]", FILE))
    call.copy_out(number)
    return 0


def way_out(call: Call, succeeded: bool) -> None:
    for number, file in call.delayed:
        if succeeded:
            call.kernel.fd_install(number, file)
        else:
            call.kernel.fput(file)
            call.kernel.put_unused_fd(number)


# -- what came of it in Linux 6.19


class FdPrepare:
    """FD_PREPARE: number first, then the file; the end of the scope undoes what is not published."""

    def __init__(self, call: Call) -> None:
        self.kernel = call.kernel
        self.number = -1
        self.file: File | None = None
        self.error: OSError | None = None
        try:
            self.number = self.kernel.get_unused_fd_flags(NUMBER)
            self.file = self.kernel.anon_inode_getfile("[x]", FILE)
        except OSError as error:
            self.error = error

    def publish(self) -> int:
        assert self.file is not None
        self.kernel.fd_install(self.number, self.file)
        number, self.number, self.file = self.number, -errno.EBADF, None
        return number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """What is held decides."""
        if self.number >= 0:
            self.kernel.put_unused_fd(self.number)
        if self.file is not None:
            self.kernel.fput(self.file)


class FirstFdPrepare(FdPrepare):
    """As it was first merged: the end of the scope looks at the error of the start, not at what is held."""

    def __exit__(self, *raised: object) -> None:
        if self.error is not None:
            super().__exit__()


def prepare(call: Call, kind: type[FdPrepare] = FdPrepare) -> int:
    with kind(call) as fd:
        if fd.error is not None:
            raise fd.error
        call.copy_out(fd.number)
        fd.publish()
    return 0


def first_prepare(call: Call) -> int:
    return prepare(call, FirstFdPrepare)


# -- the file first


def file_first(call: Call) -> int:
    """The order for a file that was there before the call, as one out of a message is."""
    file = call.kernel.anon_inode_getfile("[x]", FILE)
    try:
        number = call.kernel.get_unused_fd_flags(NUMBER)
    except OSError:
        call.kernel.fput(file)
        raise
    try:
        call.copy_out(number)
    except OSError:
        call.kernel.put_unused_fd(number)
        call.kernel.fput(file)
        raise
    call.kernel.fd_install(number, file)
    return 0


# -- a file whose making leaves a name behind, as open() with O_CREAT does; its number is what it returns


def create_file_first(call: Call) -> int:
    file = call.kernel.anon_inode_getfile("[x]", FILE)
    try:
        call.task.mkdir("/new")
        number = call.kernel.get_unused_fd_flags(NUMBER)
    except OSError:
        # The file goes; the name has been made, and somebody may have seen it.
        call.kernel.fput(file)
        raise
    call.kernel.fd_install(number, file)
    call.memory = number
    return 0


def create_number_first(call: Call) -> int:
    with UnusedFd(call) as fd:
        file = call.kernel.anon_inode_getfile("[x]", FILE)
        try:
            call.task.mkdir("/new")
        except OSError:
            call.kernel.fput(file)
            raise
        call.kernel.fd_install(fd.number, file)
        call.memory = fd.take()
    return 0


# -- every path through each


WAYS: dict[str, Callable[[Call], int]] = {
    "by-hand": by_hand,
    "by-hand-forgetful": by_hand_forgetful,
    "install-first": install_first,
    "install-and-close": install_and_close,
    "struct": struct,
    "struct-user": struct_user,
    "reserve-early": reserve_early,
    "reserve-early-not-taken": reserve_early_not_taken,
    "delayed-dup": delayed,
    "file-first": file_first,
    "create-file-first": create_file_first,
    "create-number-first": create_number_first,
    "first-prepare": first_prepare,
    "prepare": prepare,
}


def caller(way: Callable[[Call], int]) -> Callable[[Task], object]:
    """The program that makes the call: it knows the number if, and only if, it stands in its memory."""

    def program(task: Task) -> int | None:
        call = Call(task)
        succeeded = False
        try:
            way(call)
            succeeded = True
        finally:
            way_out(call, succeeded)
        assert call.memory is not None, "the call says 0, and no number was written"
        return call.memory

    return program


def neighbour(task: Task) -> int:
    """Another thread: closes the number that it expects the call to have, and opens a file of its own."""
    with contextlib.suppress(OSError):
        task.close(0)
    return task.open("/own", os.O_CREAT)


def nothing_happened(run: Run) -> None:
    """A call that failed has left no name behind, and the other thread has its file."""
    if run.errors[0] is not None:
        with contextlib.suppress(FileNotFoundError):
            run.tasks[0].close(run.tasks[0].open("/new"))
            raise AssertionError("the call failed, and its name is there")
    number = run.results[-1]
    if len(run.results) > 1 and number is not None:
        assert number in run.tasks[1].table(), "the other thread's file was closed"


def alone(name: str) -> Report:
    return explore(caller(WAYS[name]), invariant=nothing_happened)


def beside(name: str) -> Report:
    return explore(caller(WAYS[name]), neighbour, invariant=nothing_happened)


def table() -> None:
    print(
        f"{'':25}one thread: paths  fail  wrong | number  file  misuse  other | two threads: paths  wrong"
    )
    for name in WAYS:
        one, two = alone(name), beside(name)
        kinds = (Problem.NUMBER_LEFT, Problem.FILE_LEFT, Problem.MISUSE, Problem.INVARIANT)
        number, file, misuse, other = (one.problems[kind] or "-" for kind in kinds)
        print(
            f"{name:25}{one.runs:17}{one.faulted:6}{one.failing or '-':>7} |"
            f"{number:>7}{file:>6}{misuse:>8}{other:>7} |{two.runs:19}{two.failing or '-':>7}"
        )


def main(names: Sequence[str]) -> int:
    if not names:
        table()
    for name in names:
        if name not in WAYS:
            print(f"{name}: no such way; there are {', '.join(WAYS)}", file=sys.stderr)
            return 2
        report = alone(name)
        print(report if report.failing else beside(name))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
