"""A small machine with processes, pipes and files, whose descriptor tables are the model's.

    python examples/emulator.py FILE        run a program
    python examples/emulator.py             run the one below: echo hello | rev

The files are the machine's own: the table stores whatever it is given. Which number is free, what dup2 does with
the same number twice, what fork copies and exec closes, is the table's affair; when a file has lost its last
descriptor is the machine's, which counts.

A program is text, one instruction a line: the method of Machine and its arguments, or `label:`. An argument
is a number, text, or `$name`. After `->` stand the names for what a call returns; an error is -errno.
"""

import errno
import shlex
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from fdproof.model import Table

PIPELINE = """
    pipe -> reading writing
    fork -> child
    jump_if $child parent
    dup2 $writing 1             # the left side of the pipe
    close $reading
    close $writing
    write 1 "hello"
    exit
parent:
    close $writing              # or the reader would never see the end
    dup2 $reading 0
    close $reading
    read 0 -> text
    reverse $text -> text
    write 1 $text
    exit
"""


class Wait(Exception):  # noqa: N818 - the process goes on later
    """The call cannot return yet."""


class File:
    """What a descriptor can refer to; it knows how many do."""

    def __init__(self) -> None:
        self.descriptors = 0

    def read(self) -> str:
        raise OSError(errno.EBADF, "not open for reading")

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "not open for writing")


class Screen(File):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)


class Tape(File):
    """A named file: its text belongs to the machine, the offset to this opening of it."""

    def __init__(self, tapes: dict[str, str], name: str) -> None:
        super().__init__()
        self.tapes = tapes
        self.name = name
        self.offset = 0

    def read(self) -> str:
        text = self.tapes[self.name][self.offset :]
        self.offset += len(text)
        return text

    def write(self, text: str) -> int:
        before, after = self.tapes[self.name][: self.offset], self.tapes[self.name][self.offset :]
        self.tapes[self.name] = before + text + after[len(text) :]
        self.offset += len(text)
        return len(text)


class ReadingEnd(File):
    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[str] = deque()
        self.other = WritingEnd(self)

    def read(self) -> str:
        if self.waiting:
            return self.waiting.popleft()
        if self.other.descriptors:
            raise Wait
        return ""


class WritingEnd(File):
    def __init__(self, other: ReadingEnd) -> None:
        super().__init__()
        self.other = other

    def write(self, text: str) -> int:
        if not self.other.descriptors:
            raise OSError(errno.EPIPE, "nobody reads")
        self.other.waiting.append(text)
        return len(text)


class Process:
    """Where a program is, what its names hold, and its table."""

    def __init__(self, number: int, names: dict[str, int | str], table: Table[File]) -> None:
        self.number = number
        self.names = names
        self.table = table
        self.next = 0
        self.ended = False


class Machine:
    """Runs one program until all its processes have ended.

    Args:
        program: its text.
        limit: the machine's RLIMIT_NOFILE.
    """

    def __init__(self, program: str, *, limit: int = 16) -> None:
        lines = [shlex.split(line, comments=True) for line in program.splitlines()]
        self.code = [line for line in lines if line and not line[0].endswith(":")]
        self.labels: dict[str, int] = {}
        at = 0
        for line in filter(None, lines):
            if line[0].endswith(":"):
                self.labels[line[0][:-1]] = at
            else:
                at += 1
        self.limit = limit
        self.tapes: dict[str, str] = {}
        self.screen = Screen()
        first = Process(1, {}, Table())
        for _ in range(3):
            self.opened(first, self.screen)
        self.processes = [first]

    def run(self) -> str:
        """Run; return what is on the screen in the end."""
        while running := [process for process in self.processes if not process.ended]:
            # A list and not a generator: everybody has a turn, also when the first one got on.
            if not any([self.step(process) for process in running]):  # noqa: C419
                raise RuntimeError(
                    f"processes that wait for ever: {[one.number for one in running]}"
                )
        return self.screen.text

    def step(self, process: Process) -> bool:
        """Run one instruction; False if it has to wait."""
        if process.next == len(self.code):
            self.exit(process)
            return True
        call, *words = self.code[process.next]
        results: list[str] = []
        if "->" in words:
            words, results = words[: words.index("->")], words[words.index("->") + 1 :]
        arguments = [self.value(process, word) for word in words]
        process.next += 1
        try:
            returned = getattr(self, call)(process, *arguments)
        except Wait:
            process.next -= 1
            return False
        except OSError as error:
            returned = -(error.errno or errno.EIO)
        if not isinstance(returned, tuple):
            returned = (returned,) * len(results)
        process.names.update(zip(results, returned, strict=False))
        return True

    def value(self, process: Process, word: str) -> int | str:
        if word.startswith("$"):
            return process.names[word[1:]]
        return int(word) if word.isdecimal() else word

    # -- descriptors: numbers are the table's affair, the life of a file is the machine's

    def opened(self, process: Process, file: File) -> int:
        number = process.table.add(file, limit=self.limit)
        file.descriptors += 1
        return number

    def open(self, process: Process, name: str) -> int:
        self.tapes.setdefault(name, "")
        return self.opened(process, Tape(self.tapes, name))

    def pipe(self, process: Process) -> tuple[int, int]:
        end = ReadingEnd()
        reading = self.opened(process, end)
        try:
            return reading, self.opened(process, end.other)
        except OSError:
            self.close(process, reading)
            raise

    def close(self, process: Process, number: int) -> int:
        process.table.remove(number).descriptors -= 1
        return 0

    def dup(self, process: Process, number: int) -> int:
        return self.opened(process, process.table.lookup(number))

    def dup2(self, process: Process, old: int, new: int) -> int:
        file = process.table.lookup(old)
        if old != new:
            replaced = process.table.replace(new, file, limit=self.limit)
            file.descriptors += 1
            if replaced is not None:
                replaced.descriptors -= 1
        return new

    def read(self, process: Process, number: int) -> str:
        return process.table.lookup(number).read()

    def write(self, process: Process, number: int, text: str) -> int:
        return process.table.lookup(number).write(text)

    # -- processes

    def fork(self, process: Process) -> int:
        child = Process(len(self.processes) + 1, dict(process.names), process.table.copy())
        for _, file in child.table.items():  # noqa: PERF102
            file.descriptors += 1
        child.next = process.next
        # The child's side of the call: it has returned 0.
        call = self.code[process.next - 1]
        child.names.update(dict.fromkeys(call[call.index("->") + 1 :], 0) if "->" in call else {})
        self.processes.append(child)
        return child.number

    def exit(self, process: Process) -> None:
        process.ended = True
        for file in process.table.remove_range(0, process.table.size - 1):
            file.descriptors -= 1

    # -- no system calls

    def reverse(self, process: Process, text: str) -> str:
        return text[::-1]

    def jump(self, process: Process, label: str) -> None:
        process.next = self.labels[label]

    def jump_if(self, process: Process, value: int, label: str) -> None:
        if value:
            self.jump(process, label)


def main(arguments: Sequence[str]) -> int:
    program = Path(arguments[0]).read_text(encoding="utf-8") if arguments else PIPELINE
    print(Machine(program).run())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
