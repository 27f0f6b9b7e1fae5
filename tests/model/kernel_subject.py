"""The running kernel behind the methods of `fdproof.model`: real tasks, real tables.

`RealKernel` and `RealTask` have the methods of `Kernel` and `Task`, so that one program or one
test runs on both. Every method is one system call of the task, but where it says otherwise.
"""

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fdproof.model import (
    Credentials,
    Info,
    Notification,
    Pidfd,
    Received,
    Rights,
    Waited,
)
from tests.model import agents as memory
from tests.model.agents import Agents, Stuck, number_of
from tests.model.real_ring import PARAMS_SIZE, RealRing

__all__ = ["RealKernel", "RealPending", "RealTask"]

AT_FDCWD = -100
AT_REMOVEDIR = 0x200
CLONE_VM, CLONE_FILES, CLONE_PIDFD, CLONE_THREAD = 0x100, 0x400, 0x1000, 0x10000
PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 4, 38
SO_PASSCRED, SO_PEERCRED, SO_PEERPIDFD = 16, 17, 77
SCM_RIGHTS, SCM_CREDENTIALS, SCM_PIDFD = 1, 2, 4
CMSG = struct.Struct("=Qii")
MSGHDR = struct.Struct("=QI4xQQQQi4x")
PIDFD_GET_INFO = 0xC040FF0B
SECCOMP_SET_MODE_FILTER, NEW_LISTENER = 1, 1 << 3
ALLOW, USER_NOTIF = 0x7FFF0000, 0x7FC00000
NOTIF_RECV, NOTIF_SEND, NOTIF_ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
NOTIF_ADDFD, NOTIF_SET_FLAGS = 0x40182103, 0x40082104
REGISTER_FILES, UNREGISTER_FILES, REGISTER_FILES_UPDATE, GET_EVENTS = 2, 3, 6, 1
EVERY_EVENT = 0x3FF | 0x2000
OBSERVED_AT_LEAST = 1024
PIECE = 4096


class _Posted(Exception):
    """The call was given to the task; who began it has it from here."""

    def __init__(self, pending: "RealPending") -> None:
        self.pending = pending


class RealFile:
    """The file behind a number of a task, equal to the same file anywhere while both are open."""

    def __init__(self, task: "RealTask", number: int) -> None:
        self._task, self._number = task, number

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RealFile):
            return NotImplemented
        places = [(one._task.pid, one._number) for one in (self, other)]
        return self._task.kernel.agents.classes(places) == [0, 0]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<file of {self._number} in task {self._task.pid}>"


class RealEntry:
    """What a number of a table has: as `fdproof.model.Entry`."""

    def __init__(self, file: RealFile, cloexec: bool) -> None:
        self.file, self.cloexec = file, cloexec

    def __repr__(self) -> str:
        return f"RealEntry({self.file!r}, cloexec={self.cloexec})"


class RealPending:
    """A call that was begun."""

    def __init__(self, task: "RealTask", then: Callable[[int], Any]) -> None:
        self._task, self._then = task, then

    @property
    def done(self) -> bool:
        """Whether it has ended; False only once the task sleeps in it."""
        agents = self._task.kernel.agents
        while not agents.answered(self._task.index):
            if self._task.state() not in ("R", "D"):
                return agents.answered(self._task.index)
            os.sched_yield()
        return True

    def result(self) -> Any:
        """Wait for what it returned, or raise what it raised."""
        return self._then(_checked(self._task.answer()))


class RealKernel:
    """A world of tasks.

    Args:
        agents: who runs them; it serves one world at a time.
    """

    def __init__(self, agents: Agents) -> None:
        self.agents = agents
        self.root = agents.root
        self.tasks: list[RealTask] = []
        self.bound = 0
        self.rings: dict[tuple[int, int], RealRing] = {}

    def spawn(self, rlimit_nofile: int = 1024, uid: int = 0) -> "RealTask":
        """Start a process with an empty table."""
        index = self.agents.new_mailbox()
        id = self.agents.command(0, memory.CLONE, signal.SIGCHLD, index, 0)
        task = RealTask(self, index, _checked(id), _checked(id))
        self.agents.handle(index, signal.SIGCHLD, signal.SIG_DFL)
        task.system("chdir", task.put(os.fsencode(self.root) + b"\0"))
        task.setrlimit(rlimit_nofile)
        if uid and os.geteuid() == 0:
            task.system("setresgid", uid, uid, uid)
            task.system("setresuid", uid, uid, uid)
            task.system("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
        return task

    def close(self) -> None:
        """Kill all tasks, and empty the directory."""
        for pid in {task.tgid for task in self.tasks if not task.ended}:
            self.agents.kill(pid)
        with os.scandir(self.root) as found:
            for entry in found:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
        self.tasks.clear()
        self.rings.clear()


class RealTask:
    """A process or thread of the running kernel, as `fdproof.model.Task`.

    Args:
        kernel: its world.
        index: of its mailbox.
        pid: of the thread.
        tgid: the pid of its process.
    """

    def __init__(self, kernel: RealKernel, index: int, pid: int, tgid: int) -> None:
        self.kernel = kernel
        self.index = index
        self.pid = pid
        self.tgid = tgid
        self.pidfd: int | None = None
        self.ended = self.reaped = False
        self._agents = kernel.agents
        self._data = kernel.agents.data(index)
        self._address = kernel.agents.data_address(index)
        self._used = 0
        self._begins = False
        self._highest = 0
        kernel.tasks.append(self)

    # -- how a call is made

    def put(self, content: bytes) -> int:
        """Write what a call reads, or zeros that it overwrites; return where the task finds it."""
        at = (self._used + 7) & ~7
        self._data[at : at + len(content)] = content
        self._used = at + len(content)
        return self._address + at

    def taken(self, address: int, length: int) -> bytes:
        """What a call wrote."""
        at = address - self._address
        return bytes(self._data[at : at + length])

    def run(self, command: int, arguments: Sequence[int], then: Callable[[int], Any] = int) -> Any:
        """Give the task a command, wait for its value, and return what `then` makes of it."""
        self._used = 0
        self._agents.post(self.index, command, arguments, self.kernel.bound)
        if self._begins:
            raise _Posted(RealPending(self, then))
        return then(_checked(self.answer()))

    def answer(self) -> int:
        """Wait for what the call said; 0 if the task ended in it, as by a signal to itself."""
        deadline = time.monotonic() + memory.PATIENCE
        while True:
            try:
                return self._agents.answer(self.index, timeout=0.002)
            except Stuck:
                if self.state() in "ZX-":
                    return 0
                if time.monotonic() > deadline:
                    raise

    def system(self, name: str, *arguments: int, then: Callable[[int], Any] = int) -> Any:
        """Make a system call."""
        return self.run(memory.SYSTEM_CALL, (number_of(name), *arguments), then)

    def begin(self, call: str, *arguments: Any) -> RealPending:
        """Begin a call that may wait."""
        self._begins = True
        try:
            getattr(self, call)(*arguments)
        except _Posted as posted:
            return posted.pending
        finally:
            self._begins = False
        raise AssertionError(f"{call} made no call")

    def state(self) -> str:
        """The kernel's letter for what the task does: R, S, Z ...; "-" once it is gone."""
        try:
            line = Path(f"/proc/{self.tgid}/task/{self.pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return "-"
        return line[line.rindex(")") + 2]

    def wait_for_end(self) -> None:
        """Wait until the task has ended and has let go of its table."""
        self._wait_for("ZX-")
        self.ended = True

    def wait_for_reaping(self) -> None:
        """Wait until nothing is left of the task, its number neither."""
        self._wait_for("-")
        self.reaped = True

    def _wait_for(self, states: str) -> None:
        deadline = time.monotonic() + memory.PATIENCE
        while self.state() not in states:
            if time.monotonic() > deadline:
                raise Stuck(f"task {self.pid} did not end")
            os.sched_yield()

    def observed(self) -> tuple[memory.Entry, ...]:
        """The table as the last command left it; see `RealKernel.bound`."""
        return self._agents.entries(self.index)

    def observe(self) -> tuple[memory.Entry, ...]:
        """The table as it is."""
        with contextlib.suppress(OSError):
            self.run(memory.SYSTEM_CALL, (number_of("gettid"),))
        return self.observed()

    def table(self) -> dict[int, RealEntry]:
        """What is open; the first 500 descriptors below the highest number that was named."""
        before = self.kernel.bound
        self.kernel.bound = max(before, OBSERVED_AT_LEAST, self._highest + 1)
        try:
            entries = self.observe()
        finally:
            self.kernel.bound = before
        return {
            entry.number: RealEntry(RealFile(self, entry.number), bool(entry.close_on_exec))
            for entry in entries
        }

    def _noted(self, number: int) -> int:
        """Remember how far the table must be looked through."""
        self._highest = max(self._highest, number)
        return number

    def _path(self, path: str) -> int:
        if path.startswith("/"):
            path = f"{self.kernel.root}{path}"
        return self.put(os.fsencode(path) + b"\0")

    def _pieces(self, data: bytes) -> list[tuple[int, int]]:
        """Where the pieces of data are; what is too long for the mailbox must be one byte repeated."""
        if len(data) <= PIECE:
            return [(self.put(data), len(data))]
        assert data == data[:1] * len(data)
        start = self.put(data[:PIECE])
        return [(start, min(PIECE, len(data) - at)) for at in range(0, len(data), PIECE)]

    def _pair(self, address: int) -> Callable[[int], tuple[int, int]]:
        def numbers(_: int) -> tuple[int, int]:
            first, second = struct.unpack("=2i", self.taken(address, 8))
            return first, second

        return numbers

    # -- files

    def open(self, path: str, flags: int = 0, mode: int = 0o666) -> int:
        return self.system("open", self._path(path), flags, mode)

    def openat(self, dirfd: int, path: str, flags: int = 0, mode: int = 0o666) -> int:
        return self.system("openat", dirfd, self._path(path), flags, mode)

    def mkdir(self, path: str) -> None:
        self.system("mkdir", self._path(path), 0o777, then=_nothing)

    def unlink(self, path: str) -> None:
        self.system("unlink", self._path(path), then=_nothing)

    def read(self, fd: int, count: int) -> bytes:
        address = self.put(b"")
        return self.system("read", fd, address, count, then=lambda n: self.taken(address, n))

    def write(self, fd: int, data: bytes) -> int:
        return self.system("write", fd, self.put(data), len(data))

    def lseek(self, fd: int, offset: int, whence: int = 0) -> int:
        return self.system("lseek", fd, offset, whence)

    def memfd_create(self, name: str = "m", flags: int = 0) -> int:
        return self.system("memfd_create", self.put(os.fsencode(name) + b"\0"), flags)

    def eventfd2(self, initial: int = 0, flags: int = 0) -> int:
        return self.system("eventfd2", initial, flags)

    def pipe2(self, flags: int = 0) -> tuple[int, int]:
        address = self.put(bytes(8))
        return self.system("pipe2", address, flags, then=self._pair(address))

    # -- the table

    def close(self, fd: int) -> None:
        self.system("close", fd, then=_nothing)

    def dup(self, fd: int) -> int:
        return self.system("dup", fd)

    def dup2(self, old: int, new: int) -> int:
        return self.system("dup2", old, new, then=self._noted)

    def dup3(self, old: int, new: int, flags: int = 0) -> int:
        return self.system("dup3", old, new, flags, then=self._noted)

    def fcntl(self, fd: int, command: int, argument: int = 0) -> int:
        copies = command in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC)
        return self.system("fcntl", fd, command, argument, then=self._noted if copies else int)

    def close_range(self, first: int, last: int, flags: int = 0) -> None:
        self.system("close_range", first, last, flags, then=_nothing)

    # -- waiting for files

    def epoll_create1(self, flags: int = 0) -> int:
        return self.system("epoll_create1", flags)

    def epoll_ctl(self, epfd: int, op: int, fd: int, events: int = 0, data: int = 0) -> None:
        event = self.put(struct.pack("=IQ", events, data))
        self.system("epoll_ctl", epfd, op, fd, event, then=_nothing)

    def epoll_wait(self, epfd: int, count: int = 64) -> list[tuple[int, int]]:
        address = self.put(bytes(12 * max(count, 0)))

        def events(found: int) -> list[tuple[int, int]]:
            pairs = struct.iter_unpack("=IQ", self.taken(address, 12 * found))
            return [(data, events) for events, data in pairs]

        return self.system("epoll_wait", epfd, address, count, 0, then=events)

    def poll(self, fd: int) -> int:
        address = self.put(struct.pack("=ihh", fd, EVERY_EVENT, 0))
        return self.system(
            "poll", address, 1, 0, then=lambda _: struct.unpack("=6xH", self.taken(address, 8))[0]
        )

    # -- sockets

    def socketpair(self, kind: int = socket.SOCK_STREAM) -> tuple[int, int]:
        address = self.put(bytes(8))
        return self.system("socketpair", socket.AF_UNIX, kind, 0, address, then=self._pair(address))

    def sendmsg(
        self,
        fd: int,
        data: bytes,
        control: Sequence[Rights | Credentials | Pidfd] = (),
        flags: int = 0,
    ) -> int:
        ancillary = b"".join(_padded(*_message(item)) for item in control)
        pieces = self._pieces(data)
        iov = self.put(struct.pack(f"={2 * len(pieces)}Q", *itertools.chain(*pieces)))
        where = self.put(ancillary) if ancillary else 0
        header = self.put(MSGHDR.pack(0, 0, iov, len(pieces), where, len(ancillary), 0))
        return self.system("sendmsg", fd, header, flags)

    def recvmsg(self, fd: int, count: int, control_size: int = 0, flags: int = 0) -> Received:
        data = self.put(bytes(count))
        control = self.put(bytes(control_size))
        iov = self.put(struct.pack("=QQ", data, count))
        header = self.put(
            MSGHDR.pack(0, 0, iov, 1, control if control_size else 0, control_size, 0)
        )

        def received(length: int) -> Received:
            *_, filled, answered = MSGHDR.unpack(self.taken(header, MSGHDR.size))
            messages = tuple(_messages(self.taken(control, filled)))
            return Received(self.taken(data, min(length, count)), messages, answered)

        return self.system("recvmsg", fd, header, flags, then=received)

    def setsockopt(self, fd: int, name: int, value: int) -> None:
        address = self.put(struct.pack("=i", value))
        self.system("setsockopt", fd, socket.SOL_SOCKET, name, address, 4, then=_nothing)

    def getsockopt(self, fd: int, name: int) -> Any:
        credentials = name == SO_PEERCRED
        value = self.put(bytes(12))
        length = self.put(struct.pack("=i", 12 if credentials else 4))

        def option(_: int) -> Any:
            if credentials:
                return Credentials(*struct.unpack("=3i", self.taken(value, 12)))
            return struct.unpack("=i", self.taken(value, 4))[0]

        return self.system("getsockopt", fd, socket.SOL_SOCKET, name, value, length, then=option)

    # -- processes

    def pidfd_open(self, pid: int, flags: int = 0) -> int:
        return self.system("pidfd_open", pid, flags)

    def pidfd_getfd(self, pidfd: int, fd: int, flags: int = 0) -> int:
        return self.system("pidfd_getfd", pidfd, fd, flags)

    def pidfd_send_signal(self, pidfd: int, signal: int, flags: int = 0) -> None:
        self.system("pidfd_send_signal", pidfd, signal, 0, flags, then=_nothing)

    def pidfd_info(self, pidfd: int, mask: int = 0) -> Info:
        address = self.put(struct.pack("=Q56x", mask))

        def info(_: int) -> Info:
            found, pid, exit_code = struct.unpack("=Q8xi40xi", self.taken(address, 64))
            return Info(found, pid, exit_code)

        return self.system("ioctl", pidfd, PIDFD_GET_INFO, address, then=info)

    def waitid(self, idtype: int, id: int, options: int) -> Waited | None:
        address = self.put(bytes(128))

        def waited(_: int) -> Waited | None:
            code, pid, status = struct.unpack("=8xi4xi4xi", self.taken(address, 28))
            return Waited(pid, code, status) if pid else None

        return self.system("waitid", idtype, id, address, options, 0, then=waited)

    def getpid(self) -> int:
        return self.system("getpid")

    def kill(self, pid: int, signal: int) -> None:
        """kill(2); a signal that does something goes to nobody but a task of this world."""
        assert not signal or pid in {
            number for task in self.kernel.tasks for number in (task.pid, task.tgid)
        }
        self.system("kill", pid, signal, then=_nothing)

    def fork(self) -> "RealTask":
        return self.clone(0)

    def clone(self, flags: int) -> "RealTask":
        """clone(2): with SIGCHLD at the end, unless it makes a thread."""
        index = self._agents.new_mailbox()
        pidfd = self.put(struct.pack("=i", -1))
        ending = 0 if flags & CLONE_THREAD else signal.SIGCHLD

        def child(id: int) -> RealTask:
            pid = self.tgid if flags & CLONE_THREAD else id
            task = RealTask(self.kernel, index, id, pid)
            if flags & CLONE_PIDFD:
                task.pidfd = struct.unpack("=i", self.taken(pidfd, 4))[0]
            return task

        return self.run(memory.CLONE, (flags | ending, index, pidfd), child)

    def unshare(self, flags: int) -> None:
        self.system("unshare", flags, then=_nothing)

    def execve(self) -> None:
        """execve(2) of the agent; the other threads are gone, and the task leads its process."""

        def executed(_: int) -> None:
            for task in self.kernel.tasks:
                if task.tgid == self.tgid and task is not self:
                    # If it led, its number is this task's from now on.
                    task.ended = task.reaped = True
            self.pid = self.tgid

        self.run(memory.EXECVE, (), executed)

    def exit(self, status: int = 0) -> None:
        """exit(2), of this thread; and wait until the table is let go of."""
        self._agents.post(self.index, memory.SYSTEM_CALL, (number_of("exit"), status))
        self.wait_for_end()

    def setrlimit(self, soft: int, hard: int | None = None) -> None:
        """prlimit64(2) of the number of descriptors; without a hard limit it stays."""
        if hard is None:
            old = self.put(bytes(16))
            self.system("prlimit64", 0, 7, 0, old)
            hard = struct.unpack("=8xQ", self.taken(old, 16))[0]
        new = self.put(struct.pack("=QQ", soft, hard))
        self.system("prlimit64", 0, 7, new, 0, then=_nothing)

    # -- the notifier

    def seccomp(self, calls: Sequence[str], flags: int = 0) -> int:
        """seccomp(2) with a filter that stops these calls; no_new_privs is set before."""
        numbers = [number_of(call) for call in calls]
        program = struct.pack("=HBBI", 0x20, 0, 0, 0)
        for left, number in zip(range(len(numbers), 0, -1), numbers, strict=True):
            program += struct.pack("=HBBI", 0x15, left, 0, number)
        program += struct.pack("=HBBI", 0x06, 0, 0, ALLOW)
        program += struct.pack("=HBBI", 0x06, 0, 0, USER_NOTIF)
        self.system("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        code = self.put(program)
        header = self.put(struct.pack("=H6xQ", len(program) // 8, code))
        self.kernel_calls = {number_of(call): call for call in calls}
        _TRAPPED.update(self.kernel_calls)
        return self.system("seccomp", SECCOMP_SET_MODE_FILTER, NEW_LISTENER | flags, header)

    def notif_recv(self, fd: int) -> Notification:
        address = self.put(bytes(80))

        def notification(_: int) -> Notification:
            id, pid, number, *arguments = struct.unpack("=QI4xi12x6Q", self.taken(address, 80))
            return Notification(id, pid, _TRAPPED[number], tuple(arguments))

        return self.system("ioctl", fd, NOTIF_RECV, address, then=notification)

    def notif_send(
        self, fd: int, id: int, *, value: int = 0, error: int = 0, flags: int = 0
    ) -> None:
        address = self.put(struct.pack("=QqiI", id, value, -error, flags))
        self.system("ioctl", fd, NOTIF_SEND, address, then=_nothing)

    def notif_id_valid(self, fd: int, id: int) -> None:
        address = self.put(struct.pack("=Q", id))
        self.system("ioctl", fd, NOTIF_ID_VALID, address, then=_nothing)

    def notif_addfd(
        self, fd: int, id: int, srcfd: int, *, flags: int = 0, newfd: int = 0, newfd_flags: int = 0
    ) -> int:
        address = self.put(struct.pack("=QIiiI", id, flags, srcfd, newfd, newfd_flags))
        return self.system("ioctl", fd, NOTIF_ADDFD, address)

    def notif_set_flags(self, fd: int, flags: int) -> None:
        self.system("ioctl", fd, NOTIF_SET_FLAGS, flags, then=_nothing)

    # -- rings

    def io_uring_setup(self, entries: int) -> int:
        """io_uring_setup(2) on memory of ours, so that nothing has to be mapped."""
        ring = RealRing(self._agents, self.index, len(self.kernel.rings))
        params = self.put(ring.params())

        def set_up(number: int) -> int:
            ring.set_up(self.taken(params, PARAMS_SIZE))
            self.kernel.rings[self.pid, number] = ring
            return number

        return self.system("io_uring_setup", entries, params, then=set_up)

    def io_uring_register_files(self, ring: int, numbers: Sequence[int]) -> None:
        address = self.put(struct.pack(f"={len(numbers)}i", *numbers))
        self.system("io_uring_register", ring, REGISTER_FILES, address, len(numbers), then=_nothing)

    def io_uring_update(self, ring: int, offset: int, numbers: Sequence[int]) -> int:
        files = self.put(struct.pack(f"={len(numbers)}i", *numbers))
        update = self.put(struct.pack("=I4xQ", offset, files))
        return self.system("io_uring_register", ring, REGISTER_FILES_UPDATE, update, len(numbers))

    def io_uring_unregister_files(self, ring: int) -> None:
        self.system("io_uring_register", ring, UNREGISTER_FILES, 0, 0, then=_nothing)

    def io_uring_install(self, ring: int, index: int, flags: int = 0) -> int:
        """IORING_OP_FIXED_FD_INSTALL, submitted and waited for.

        Which ring it is, only its maker's number tells; under another, the world's only ring is meant.
        """
        rings = self.kernel.rings
        known = rings.get((self.pid, ring), next(iter(rings.values()), None))
        if known is None:
            return self.system("io_uring_enter", ring, 1, 1, GET_EVENTS, 0, 0)
        known.submit_install(index, flags)
        try:
            return self.system(
                "io_uring_enter", ring, 1, 1, GET_EVENTS, 0, 0, then=lambda _: known.result()
            )
        except BaseException:
            known.withdraw()
            raise


_TRAPPED: dict[int, str] = {}


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def _nothing(_: int) -> None:
    return None


def _message(item: Rights | Credentials | Pidfd) -> tuple[int, bytes]:
    """A control message's type and content."""
    if isinstance(item, Rights):
        return SCM_RIGHTS, struct.pack(f"={len(item.numbers)}i", *item.numbers)
    if isinstance(item, Credentials):
        return SCM_CREDENTIALS, struct.pack("=3i", item.pid, item.uid, item.gid)
    return SCM_PIDFD, struct.pack("=i", item.number)


def _padded(kind: int, content: bytes) -> bytes:
    header = CMSG.pack(CMSG.size + len(content), socket.SOL_SOCKET, kind)
    return header + content + bytes(-len(content) % 8)


def _messages(control: bytes) -> Iterator[Rights | Credentials | Pidfd]:
    while len(control) >= CMSG.size:
        length, _, kind = CMSG.unpack_from(control)
        content = control[CMSG.size : length]
        if kind == SCM_RIGHTS:
            yield Rights(struct.unpack(f"={len(content) // 4}i", content))
        elif kind == SCM_CREDENTIALS and len(content) == 12:
            yield Credentials(*struct.unpack("=3i", content))
        elif kind == SCM_PIDFD:
            yield Pidfd(struct.unpack("=i", content)[0])
        control = control[(length + 7) & ~7 :]
