"""The memory that Python shares with the agents, and the commands that go through it.

An agent (``agent.c``) is a task whose table holds nothing but what is tested: it takes its
commands from a mailbox in memory. Agent 0 is the first; it is the parent of the tasks that
programs start, and it looks at files from outside.
"""

import contextlib
import ctypes
import functools
import itertools
import os
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

__all__ = ["Agents", "Entry", "StuckError", "number_of", "started"]

# Repeated from agent.c.
SEGMENT_ADDRESS = 0x1000000000
MAILBOX_SIZE = 0x10000
MAILBOXES = 192
ENTRIES_AT = 0x1000
DATA_AT = 0x4000
DATA_SIZE = 0x4000
RINGS_AT, RING_SIZE, RINGS = 0x8000, 0x2000, 3
ANSWERED, COMMANDED = 0, 1
SYSTEM_CALL, CLONE, EXECVE, CORRELATE = 0, 1, 2, 3
COMMAND = struct.Struct("=i7qqi")
COMMAND_AT, RESULT_AT, SEEN_AT, TASK_AT, CONTROLLER_AT = 4, 64, 76, 80, 84
ENTRY = struct.Struct("=4iq")
PLACE = struct.Struct("=3i")

FUTEX_WAIT, FUTEX_WAKE = 0, 1
IPC_PRIVATE, IPC_RMID = 0, 0
EVERYBODY_MAY = 0o666
PATIENCE = 10.0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = (ctypes.c_long, ctypes.c_void_p, *[ctypes.c_long] * 2, ctypes.c_void_p)


class StuckError(Exception):
    """A task did not answer: its call waits, or it is gone."""


class Entry(NamedTuple):
    """A descriptor as its own task sees it.

    Args:
        number: in the table.
        same: the lowest number in the table with the same file.
        close_on_exec: the descriptor's flag.
        status: the file's status flags.
        position: the file's offset, or -errno.
    """

    number: int
    same: int
    close_on_exec: int
    status: int
    position: int


@functools.cache
def number_of(name: str) -> int:
    """The number of a system call on this machine."""
    return int(ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode()))


@functools.lru_cache(maxsize=4096)
def _entries(raw: bytes) -> tuple[Entry, ...]:
    return tuple(itertools.starmap(Entry, ENTRY.iter_unpack(raw)))


@contextlib.contextmanager
def started() -> Iterator["Agents"]:
    """Agents with directories of their own, for the length of the block."""
    # Not below pytest's own directory, which nobody else may look into.
    with (
        tempfile.TemporaryDirectory(prefix="fdproof-") as directory,
        tempfile.TemporaryDirectory(prefix="fdproof-", dir="/dev/shm") as root,
    ):
        for path in (directory, root):
            Path(path).chmod(0o755)
        with Agents(Path(root), Path(directory)) as agents:
            yield agents


class Agents:
    """Agent 0 and the memory; the other agents come and go with the programs.

    They end with this process, however it ends.

    Args:
        root: the directory that tasks take for the root of their paths: an empty one on a tmpfs,
            since file systems differ in what they do.
        directory: for the compiled program; everybody must be able to enter it.

    Raises:
        OSError: there is no C compiler, or no System V memory.
    """

    def __init__(self, root: Path, directory: Path) -> None:
        self.root = root
        program = directory / "agent"
        source = Path(__file__).with_name("agent.c")
        freestanding = ["-static", "-nostdlib", "-no-pie", "-ffreestanding", "-fno-stack-protector"]
        subprocess.run(["cc", "-O2", *freestanding, "-o", program, source], check=True)
        program.chmod(0o755)

        size = MAILBOX_SIZE * MAILBOXES
        segment = _libc.shmget(IPC_PRIVATE, size, EVERYBODY_MAY)
        self.segment = int(segment)
        if segment < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._address = int(_libc.shmat(segment, None, 0))
        self._memory = (ctypes.c_char * size).from_address(self._address)
        self._view = memoryview(self._memory).cast("B")
        self._last_mailbox = 0
        self._dying: list[int] = []
        self._futex_call = number_of("futex")
        struct.pack_into(
            "=2i256s", self._view, CONTROLLER_AT, os.getpid(), segment, os.fsencode(program)
        )
        self._turn(0).value = COMMANDED
        try:
            # Without a SIGPIPE, as in Python; a write without a reader fails with EPIPE.
            self._process = subprocess.Popen([program, str(segment), "0"], restore_signals=False)
            self.pid = self._process.pid
            self.answer(0, PATIENCE)
            # Who is nobody's child is reaped at once, as by an init.
            self.handle(0, signal.SIGCHLD, signal.SIG_IGN)
        finally:
            # It stays while it is attached, and can still be attached: nothing is left behind.
            _libc.shmctl(segment, IPC_RMID, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End agent 0, and give the memory back."""
        self._process.kill()
        self._process.wait()
        self._view.release()
        _libc.shmdt(ctypes.c_void_p(self._address))

    @functools.cache  # noqa: B019
    def _turn(self, index: int) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_address(self._address + index * MAILBOX_SIZE)

    def data(self, index: int) -> memoryview:
        """The memory of a task for what its calls read and write."""
        start = index * MAILBOX_SIZE + DATA_AT
        return self._view[start : start + DATA_SIZE]

    def data_address(self, index: int) -> int:
        """Where the task has it."""
        return SEGMENT_ADDRESS + index * MAILBOX_SIZE + DATA_AT

    def ring(self, index: int, place: int) -> tuple[memoryview, int]:
        """The memory of a task for one of its rings, and where the task has it."""
        start = index * MAILBOX_SIZE + RINGS_AT + place % RINGS * RING_SIZE
        return self._view[start : start + RING_SIZE], SEGMENT_ADDRESS + start

    def post(self, index: int, command: int, arguments: Sequence[int], bound: int = 0) -> None:
        """Give a task a command.

        Args:
            index: of the task's mailbox.
            command: SYSTEM_CALL and its kin.
            arguments: up to seven.
            bound: numbers below it are observed afterwards; see `entries`.
        """
        padded = (*arguments, 0, 0, 0, 0, 0, 0, 0)[:7]
        COMMAND.pack_into(self._view, index * MAILBOX_SIZE + COMMAND_AT, command, *padded, 0, bound)
        turn = self._turn(index)
        turn.value = COMMANDED
        address = self._address + index * MAILBOX_SIZE
        _libc.syscall(self._futex_call, address, FUTEX_WAKE, 1, None)

    def answered(self, index: int) -> bool:
        """Whether the task has executed its command."""
        return self._turn(index).value == ANSWERED

    def answer(self, index: int, timeout: float = PATIENCE) -> int:
        """Wait for what the task's call said: its value, or -errno.

        Raises:
            StuckError: it did not answer in time.
        """
        turn = self._turn(index)
        address = self._address + index * MAILBOX_SIZE
        deadline = 0.0
        while turn.value != ANSWERED:
            now = time.monotonic()
            deadline = deadline or now + timeout
            if now > deadline:
                raise StuckError(f"task {index} did not answer")
            spec = ctypes.create_string_buffer(
                struct.pack("=qq", *divmod(int(timeout * 1e9), 1_000_000_000))
            )
            _libc.syscall(self._futex_call, address, FUTEX_WAIT, COMMANDED, ctypes.addressof(spec))
        return int(struct.unpack_from("=q", self._view, index * MAILBOX_SIZE + RESULT_AT)[0])

    def command(self, index: int, command: int, *arguments: int, bound: int = 0) -> int:
        """Give a task a command, and wait for what it said."""
        self.post(index, command, arguments, bound)
        return self.answer(index)

    def entries(self, index: int) -> tuple[Entry, ...]:
        """What the task observed after its last command."""
        start = index * MAILBOX_SIZE
        seen = int(struct.unpack_from("=i", self._view, start + SEEN_AT)[0])
        start += ENTRIES_AT
        return _entries(bytes(self._view[start : start + seen * ENTRY.size]))

    def classes(self, places: Sequence[tuple[int, int]]) -> list[int]:
        """Say which places hold the same file: for each, the index of the first with its file.

        Args:
            places: pid and number.

        Raises:
            OSError: kcmp(2) was not allowed, or a number is not open.
        """
        data = self.data(0)
        for index, (pid, number) in enumerate(places):
            PLACE.pack_into(data, index * PLACE.size, pid, number, 0)
        result = self.command(0, CORRELATE, len(places))
        if result < 0:
            raise OSError(-result, os.strerror(-result), "kcmp")
        packed = data[: len(places) * PLACE.size]
        return [place[2] for place in PLACE.iter_unpack(packed)]

    def handle(self, index: int, number: int, action: signal.Handlers) -> None:
        """Let a task ignore a signal, or not."""
        struct.pack_into("=4Q", self.data(index), 0, action, 0, 0, 0)
        arguments = (number, self.data_address(index), 0, 8)
        self.command(index, SYSTEM_CALL, number_of("rt_sigaction"), *arguments)

    def task(self, index: int) -> int:
        """The id of the task that serves a mailbox; 0 if none does yet."""
        return int(struct.unpack_from("=i", self._view, index * MAILBOX_SIZE + TASK_AT)[0])

    def new_mailbox(self) -> int:
        """A mailbox that no living task has."""
        self._last_mailbox += 1
        if self._last_mailbox == MAILBOXES:
            self._last_mailbox = 1
            for pid in self._dying:
                while self.command(0, SYSTEM_CALL, number_of("kill"), pid, 0) == 0:
                    os.sched_yield()
            self._dying.clear()
        start = self._last_mailbox * MAILBOX_SIZE
        self._view[start : start + COMMAND_AT] = bytes(COMMAND_AT)
        return self._last_mailbox

    def kill(self, pid: int) -> None:
        """Kill a process; it ends in its own time."""
        self.command(0, SYSTEM_CALL, number_of("kill"), pid, signal.SIGKILL)
        self._dying.append(pid)

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Keep this process and new tasks on one processor: waking each other costs the least there."""
        before = os.sched_getaffinity(0)
        one = {max(before)}
        for pid in (0, self._process.pid):
            os.sched_setaffinity(pid, one)
        try:
            yield
        finally:
            for pid in (0, self._process.pid):
                os.sched_setaffinity(pid, before)
