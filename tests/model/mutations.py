"""Deliberate mistakes in the model, one line each: what the random programs must find.

A mutation says in which file which text is replaced by which; the text is there exactly once.
`mutated` puts it into the functions of the running model, and takes it out again.
"""

import contextlib
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, NamedTuple

import fdproof.model
from tests.model.vocabulary import TABLE_CALLS

__all__ = ["MUTATIONS", "Mutation", "mutated"]

_SOURCES = Path(fdproof.model.__file__).parent


class Mutation(NamedTuple):
    """A mistake.

    Args:
        file: in `fdproof.model`.
        right: what it says.
        wrong: what it says by mistake.
        why: what somebody might have thought.
        calls: what the programs are made of that shall find it.
    """

    file: str
    right: str
    wrong: str
    why: str
    calls: tuple[str, ...] = TABLE_CALLS

    def __str__(self) -> str:
        return self.why


@contextlib.contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Have the mistake in the model for the length of the block."""
    path = _SOURCES / mutation.file
    source = path.read_text()
    assert source.count(mutation.right) == 1, f"not there exactly once: {mutation.right}"
    right = _codes(compile(source, str(path), "exec"))
    wrong = _codes(compile(source.replace(mutation.right, mutation.wrong), str(path), "exec"))
    changed = {name: code for name, code in wrong.items() if right[name] != code}
    assert changed, "the mistake is in no function"
    module = importlib.import_module(f"fdproof.model.{path.stem}")
    functions = {name: _function(module, name) for name in changed}
    before = {name: function.__code__ for name, function in functions.items()}
    try:
        for name, function in functions.items():
            function.__code__ = changed[name]
        yield
    finally:
        for name, function in functions.items():
            function.__code__ = before[name]


def _codes(code: CodeType) -> dict[str, CodeType]:
    """The functions of a module and of its classes; what is inside a function goes with it."""
    found = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if (
                constant.co_flags & inspect.CO_NEWLOCALS
                and constant.co_flags & inspect.CO_OPTIMIZED
            ):
                found[constant.co_qualname] = constant
            else:
                found |= _codes(constant)
    return found


def _function(module: Any, qualified: str) -> FunctionType:
    found: Any = module
    for name in qualified.split("."):
        found = inspect.getattr_static(found, name)
    found = inspect.unwrap(getattr(found, "fget", found))
    assert isinstance(found, FunctionType)
    return found


_PASSING = ("open", "socketpair", "sendmsg", "recvmsg", "setsockopt", "close")
_ENDING = ("fork", "clone", "exit", "waitid", "pidfd_open", "pidfd_info", "poll")
_RANGES = ("open", "dup", "clone", "close_range", "execve")

_TABLE, _DESCRIPTORS, _PROCESSES = "_table.py", "_calls_descriptors.py", "_calls_processes.py"
_FILES, _ANCILLARY = "_calls_files.py", "_ancillary.py"

MUTATIONS = (
    Mutation(
        _TABLE,
        "        if number < self._hint:\n            self._hint = number\n        return file",
        "        if number <= self._hint:\n            self._hint = number + 1\n        return file",
        "a freed number is not the next to be given out",
    ),
    Mutation(
        _TABLE,
        "        if at_least <= hint:\n            self._hint = number + 1",
        "        if True:\n            self._hint = number + 1",
        "F_DUPFD moves the hint beyond numbers that are free",
    ),
    Mutation(
        _TABLE,
        "            number = self._close_on_exec.find(1, number + 1)\n        self._close_on_exec = bytearray(self._size)",
        "            number = self._close_on_exec.find(1, number + 2)\n        self._close_on_exec = bytearray(self._size)",
        "execve passes over the neighbour of what it closed",
    ),
    Mutation(
        _TABLE,
        "        self._close_on_exec[number] = close_on_exec\n        self._reserved.add(number)",
        "        self._close_on_exec[number] |= close_on_exec\n        self._reserved.add(number)",
        "a stale flag of a free slot is taken over by who comes next",
    ),
    Mutation(
        _TABLE,
        "        self._files[number] = file\n        self._close_on_exec[number] = close_on_exec\n        return old",
        "        self._files[number] = file\n        return old",
        "dup2 keeps the flag of what it replaced",
    ),
    Mutation(
        _TABLE,
        "        first, last = max(first, 0), min(last, self._size - 1)\n        while first <= last:",
        "        first, last = max(first, 0), min(last, self._size - 1)\n        while first < last:",
        "close_range of one number does nothing",
        _RANGES,
    ),
    Mutation(
        _TABLE,
        "        last = min(last, self._size - 1)\n        if first <= last:",
        "        last = min(last, self._size - 1)\n        if first < last:",
        "CLOSE_RANGE_CLOEXEC of one number does nothing",
        _RANGES,
    ),
    Mutation(
        _TABLE,
        "        copy._close_on_exec[:size] = self._close_on_exec[:size]",
        "        copy._close_on_exec[:0] = b''",
        "fork forgets close-on-exec",
    ),
    Mutation(
        _DESCRIPTORS,
        "        if old == new:\n            self.files.lookup(old)\n            return new",
        "        if old == new:\n            return new",
        "dup2(n, n) is right for a number that is not open",
    ),
    Mutation(
        _DESCRIPTORS,
        "            self.files.lookup(old)\n            return new",
        "            self.files.set_close_on_exec(old, False)\n            return new",
        "dup2(n, n) takes close-on-exec away, as for another number",
    ),
    Mutation(
        _DESCRIPTORS,
        "        if flags & ~os.O_CLOEXEC or old == new:\n            raise failure(errno.EINVAL)",
        "        if flags & ~os.O_CLOEXEC:\n            raise failure(errno.EINVAL)",
        "dup3(n, n) is dup2(n, n)",
    ),
    Mutation(
        _DESCRIPTORS,
        "        return self._replace(old, new, bool(flags))",
        "        return self._replace(old, new, False)",
        "dup3 ignores O_CLOEXEC",
    ),
    Mutation(
        _DESCRIPTORS,
        "        if not 0 <= new < self.process.soft:\n            raise failure(errno.EBADF)",
        "        if not 0 <= new < self.process.soft:\n            raise failure(errno.EMFILE)",
        "dup2 beyond the limit says EMFILE, as dup does",
    ),
    Mutation(
        _DESCRIPTORS,
        "            if not 0 <= argument < self.process.soft:\n                raise failure(errno.EINVAL)",
        "            if not 0 <= argument < self.process.soft:\n                raise failure(errno.EMFILE)",
        "F_DUPFD beyond the limit says EMFILE",
    ),
    Mutation(
        _DESCRIPTORS,
        "            return self._duplicate(fd, argument, command == fcntl.F_DUPFD_CLOEXEC)",
        "            return self._duplicate(fd, argument, False)",
        "F_DUPFD_CLOEXEC is F_DUPFD",
    ),
    Mutation(
        _DESCRIPTORS,
        "bool(argument & fcntl.FD_CLOEXEC)",
        "bool(argument)",
        "F_SETFD takes any bit for close-on-exec",
    ),
    Mutation(
        _DESCRIPTORS,
        "or first > last:\n            raise failure(errno.EINVAL)",
        "or first >= last:\n            raise failure(errno.EINVAL)",
        "close_range takes a range of one for an empty one",
        _RANGES,
    ),
    Mutation(
        _DESCRIPTORS,
        "        if flags & CLOSE_RANGE_UNSHARE and table.users > 1:",
        "        if flags & CLOSE_RANGE_UNSHARE and table.users > 2:",
        "CLOSE_RANGE_UNSHARE leaves a table alone that two share",
        _RANGES,
    ),
    Mutation(
        _PROCESSES,
        "        self.files.users += 1\n        return self.files",
        "        return self.files.duplicate()",
        "CLONE_FILES copies the table",
    ),
    Mutation(
        _PROCESSES,
        "        if shared.users > 1:\n            self.files = shared.duplicate()",
        "        if shared.users > 2:\n            self.files = shared.duplicate()",
        "unshare and execve leave a table shared by two",
    ),
    Mutation(
        _PROCESSES,
        "        for file in self.files.remove_close_on_exec():\n            self.kernel.fput(file)",
        "        for file in list(dict(self.files.items()).values())[:0]:\n            self.kernel.fput(file)",
        "execve closes nothing",
    ),
    Mutation(
        _PROCESSES,
        "        if hard > self.kernel.nr_open or (hard > process.hard and self.uid != 0):",
        "        if hard > self.kernel.nr_open:",
        "anybody may raise the hard limit",
        ("setrlimit", "dup", "fork"),
    ),
    Mutation(
        "_caller.py",
        "        fd = self.get_unused_fd_flags(os.O_CLOEXEC if close_on_exec else 0, at_least)",
        "        fd = self.get_unused_fd_flags(os.O_CLOEXEC, at_least)",
        "what is received is always close-on-exec",
    ),
    Mutation(
        "_caller.py",
        "        if file.flags & os.O_PATH:\n            raise failure(errno.EBADF)",
        "        if file.flags & 0:\n            raise failure(errno.EBADF)",
        "an O_PATH descriptor can be read from",
    ),
    Mutation(
        _ANCILLARY,
        "        most = max(0, self.left - _HEADER) // 4",
        "        most = max(0, self.left - _HEADER) // 8",
        "control messages have room for whole words only",
        _PASSING,
    ),
    Mutation(
        _ANCILLARY,
        "        if len(numbers) < len(files):\n            self.flags |= socket.MSG_CTRUNC",
        "        if not numbers:\n            self.flags |= socket.MSG_CTRUNC",
        "descriptors that did not fit are lost without MSG_CTRUNC",
        _PASSING,
    ),
    Mutation(
        _ANCILLARY,
        "        self.flags = flags & MSG_CMSG_CLOEXEC",
        "        self.flags = 0",
        "recvmsg does not tell of MSG_CMSG_CLOEXEC",
        _PASSING,
    ),
    Mutation(
        "_pidfd.py",
        "            return READABLE | _HUP",
        "            return READABLE",
        "a pidfd tells nothing of the reaping",
        _ENDING,
    ),
    Mutation(
        "_calls_waiting.py",
        "os.CLD_EXITED, os.WEXITSTATUS(status))",
        "os.CLD_EXITED, status)",
        "waitid tells a status as wait4 does",
        _ENDING,
    ),
    Mutation(
        "_calls_supervision.py",
        "        if any(known.listener is not None for known in self.filters):",
        "        if any(known.listener is None for known in self.filters):",
        "a task may have a second listener",
        ("seccomp", "fork", "close"),
    ),
    Mutation(
        "_pipe.py",
        "        self.owner = kernel.current.uid if kernel.current is not None else 0",
        "        self.owner = 0",
        "every pipe is root's",
        ("pipe2", "fcntl", "dup"),
    ),
)
