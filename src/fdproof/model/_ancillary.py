"""Control messages: what sendmsg takes along, and how recvmsg lays it out in a buffer that may be too small."""

import errno
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fdproof.model._failure import failure
from fdproof.model._file import File
from fdproof.model._messages import Cargo, Sender
from fdproof.model._ring import RingFile
from fdproof.model._unix import UnixSocket

if TYPE_CHECKING:
    from fdproof.model._calls_sockets import SocketCalls

__all__ = ["Control", "Credentials", "Pidfd", "Received", "Rights"]

SCM_MAX_FD = 253
MSG_CMSG_CLOEXEC = 0x40000000
_HEADER = 16


@dataclass(frozen=True, slots=True)
class Rights:
    """SCM_RIGHTS: descriptors, numbers of the table of whoever holds this record."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Credentials:
    """SCM_CREDENTIALS: who sent the message, in numbers."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Pidfd:
    """SCM_PIDFD: a pidfd of the sender; or a negative errno where the receiver had no room for it."""

    number: int


Control = Rights | Credentials | Pidfd


@dataclass(frozen=True, slots=True)
class Received:
    """What recvmsg brought; the descriptors named in ``control`` are in the receiver's table.

    Credentials that the buffer cut short are left out; MSG_CTRUNC in ``flags`` tells of them.
    """

    data: bytes
    control: tuple[Control, ...]
    flags: int


def pack(task: "SocketCalls", control: Iterable[Control]) -> Cargo:
    """Resolve what a sender wants to send.

    Returns:
        The cargo; the references to its files are the caller's.

    Raises:
        OSError: EBADF, a number is not open; EINVAL, more than 253 descriptors, one of a ring, or a
            control message that cannot be sent; EPERM, ESRCH: credentials of somebody else, of nobody.
    """
    files: list[File] = []
    sender = Cargo().sender
    try:
        for item in control:
            if isinstance(item, Rights):
                if len(files) + len(item.numbers) > SCM_MAX_FD:
                    raise failure(errno.EINVAL)
                for number in item.numbers:
                    file = task.fget_raw(number)
                    files.append(file)
                    # KERNEL: a ring can hold sockets; the search for cycles does not see into it.
                    if isinstance(file, RingFile):
                        raise failure(errno.EINVAL)
            elif isinstance(item, Credentials):
                sender = _named(task, item)
            else:
                raise failure(errno.EINVAL)
    except OSError:
        for file in files:
            task.kernel.fput(file)
        raise
    return Cargo(tuple(files), sender)


class Layout:
    """The control buffer of a recvmsg, being filled."""

    def __init__(self, task: "SocketCalls", size: int, flags: int) -> None:
        self.task = task
        self.left = size
        self.close_on_exec = bool(flags & MSG_CMSG_CLOEXEC)
        self.flags = flags & MSG_CMSG_CLOEXEC
        self.control: list[Control] = []

    def fill(self, sock: UnixSocket, cargo: Cargo) -> None:
        """Lay out what came, in the kernel's order: credentials, descriptors, pidfd.

        Consumes the references of the cargo.
        """
        if sock.pass_credentials:
            self._credentials(cargo.sender)
        if cargo.files:
            self._rights(cargo.files)
        if sock.pass_pidfd:
            self._pidfd(cargo.sender)

    def _take(self, length: int) -> None:
        """Use up room for a message of this length, with what aligns the next one."""
        self.left -= min(self.left, _HEADER + (length + 7) // 8 * 8)

    def _credentials(self, sender: Sender) -> None:
        if self.left < _HEADER + 12:
            self.flags |= socket.MSG_CTRUNC
        else:
            self.control.append(Credentials(sender.pid, sender.uid, sender.gid))
        if self.left >= _HEADER:
            self._take(12)

    def _rights(self, files: tuple[File, ...]) -> None:
        """Install as many as fit into buffer and table; the rest is lost."""
        # KERNEL: room is counted in ints, so what aligns one number makes room for a second.
        most = max(0, self.left - _HEADER) // 4
        numbers: list[int] = []
        for file in files[:most]:
            try:
                numbers.append(self._receive(file))
            except OSError:
                break
        if numbers:
            self.control.append(Rights(tuple(numbers)))
            self._take(4 * len(numbers))
        if len(numbers) < len(files):
            self.flags |= socket.MSG_CTRUNC
        for file in files:
            self.task.kernel.fput(file)

    def _receive(self, file: File) -> int:
        """Give a file a number, which the program is told before it is a descriptor."""
        number = self.task.get_unused_fd_flags(os.O_CLOEXEC if self.close_on_exec else 0)
        try:
            self.task.kernel.fallible("copy_to_user", errno.EFAULT)
        except OSError:
            self.task.put_unused_fd(number)
            raise
        file.references += 1
        self.task.fd_install(number, file)
        return number

    def _pidfd(self, sender: Sender) -> None:
        if self.left < _HEADER + 4:
            self.flags |= socket.MSG_CTRUNC
            return
        if sender.process is None:
            return
        try:
            number = self.task.pidfd_of(sender.process, sender.pid)
        except OSError as error:
            if error.errno == errno.EFAULT:
                return
            # KERNEL: the message stays readable, so the failure takes the place of the number.
            number = -(error.errno or 0)
        self.control.append(Pidfd(number))
        self._take(4)


def _named(task: "SocketCalls", item: Credentials) -> Sender:
    """Return the sender that credentials name, if the task may say so."""
    if task.uid != 0 and (
        item.pid != task.process.pid or item.uid != task.uid or item.gid != task.gid
    ):
        raise failure(errno.EPERM)
    thread = task.kernel.tasks.get(item.pid)
    process = thread.process if thread else task.kernel.processes.get(item.pid)
    if process is None:
        raise failure(errno.ESRCH)
    return Sender(process, item.pid, item.uid, item.gid)
