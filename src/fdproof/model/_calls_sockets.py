"""The calls on sockets."""

import errno
import os
import socket
from collections.abc import Sequence

from fdproof.model._ancillary import Control, Credentials, Layout, Received, pack
from fdproof.model._caller import system_call
from fdproof.model._calls_pidfds import PidfdCalls
from fdproof.model._failure import failure
from fdproof.model._messages import Sender
from fdproof.model._unix import UnixSocket

__all__ = ["SocketCalls"]

SO_PASSPIDFD, SO_PEERPIDFD, SO_PASSRIGHTS = 76, 77, 83
_OPTIONS = {
    socket.SO_PASSCRED: "pass_credentials",
    SO_PASSPIDFD: "pass_pidfd",
    SO_PASSRIGHTS: "pass_rights",
}
_KINDS: dict[int, int] = {
    socket.SOCK_STREAM: socket.SOCK_STREAM,
    socket.SOCK_DGRAM: socket.SOCK_DGRAM,
    socket.SOCK_RAW: socket.SOCK_DGRAM,
    socket.SOCK_SEQPACKET: socket.SOCK_SEQPACKET,
}
_KIND = 0xF


class SocketCalls(PidfdCalls):
    """socketpair, sendmsg, recvmsg, setsockopt, getsockopt, of AF_UNIX.

    Left out: out-of-band data, MSG_WAITALL, SIGPIPE. A send that waits goes on as soon as all of it
    has room, and looks its descriptors up again; Linux goes on when a quarter is taken at most, and
    sends of a stream what has room before it waits.
    """

    @system_call
    def socketpair(self, kind: int = socket.SOCK_STREAM) -> tuple[int, int]:
        """Make two sockets that are connected to each other.

        Args:
            kind: SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET; with SOCK_CLOEXEC, SOCK_NONBLOCK.

        Raises:
            OSError: EINVAL, unknown flags; EMFILE, no room for two numbers; ESOCKTNOSUPPORT, no such
                kind; ENFILE.

        Kernel:
            socketpair(2), unix(7).
        """
        flags, kind = kind & ~_KIND, kind & _KIND
        if flags & ~(socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK):
            raise failure(errno.EINVAL)
        # KERNEL: both numbers first, and told to the program, then the sockets.
        first = self.get_unused_fd_flags(flags)
        try:
            second = self.get_unused_fd_flags(flags)
            try:
                self.kernel.fallible("copy_to_user", errno.EFAULT)
                one, other = self._pair(kind, flags & os.O_NONBLOCK)
            except OSError:
                self.put_unused_fd(second)
                raise
        except OSError:
            self.put_unused_fd(first)
            raise
        self.fd_install(first, one)
        self.fd_install(second, other)
        return first, second

    def _pair(self, kind: int, status: int) -> tuple[UnixSocket, UnixSocket]:
        if kind not in _KINDS:
            raise failure(errno.ESOCKTNOSUPPORT)
        me = self.as_sender()
        one = UnixSocket(self.kernel, _KINDS[kind], status, me)
        try:
            other = UnixSocket(self.kernel, _KINDS[kind], status, me)
        except OSError:
            self.kernel.fput(one)
            raise
        one.peer, other.peer = other, one
        return one, other

    @system_call
    def sendmsg(self, fd: int, data: bytes, control: Sequence[Control] = (), flags: int = 0) -> int:
        """Send data, and with it descriptors and credentials.

        References to the files are taken at once: the descriptors may be closed afterwards. On a
        stream no descriptor travels without at least one byte.

        Args:
            fd: the socket.
            data: the bytes.
            control: Rights and Credentials.
            flags: MSG_DONTWAIT; MSG_NOSIGNAL, which changes nothing: the model has no SIGPIPE.

        Returns:
            How many bytes were sent.

        Raises:
            OSError: EBADF, ENOTSOCK, EINVAL, EPERM, ESRCH for what was given; ETOOMANYREFS, the user
                has more in flight than the soft limit and no privilege; EPERM, the receiver refuses
                descriptors (SO_PASSRIGHTS, 6.16); EPIPE, ECONNREFUSED, ENOTCONN, ECONNRESET for an
                end that was closed; EMSGSIZE; EAGAIN.
            Blocked: there is no room.

        Kernel:
            sendmsg(2), unix(7).
        """
        sock = self._socket(fd)
        return self.operate(sock, lambda: self._send(sock, data, control, flags))

    def _send(self, sock: UnixSocket, data: bytes, control: Sequence[Control], flags: int) -> int:
        if sock.kind == socket.SOCK_SEQPACKET:
            # KERNEL: this kind tells its error before the control messages are looked at.
            sock.check_error()
        cargo = pack(self, control)
        try:
            if flags & socket.MSG_OOB:
                raise failure(errno.EOPNOTSUPP)
            in_flight = self.kernel.in_flight.by_user[self.uid]
            return sock.send(
                data,
                cargo,
                flags=flags,
                crowded=self.uid != 0 and in_flight > self.rlimit_nofile,
                me=self.as_sender(),
            )
        finally:
            for file in cargo.files:
                self.kernel.fput(file)

    @system_call
    def recvmsg(self, fd: int, count: int, control_size: int = 0, flags: int = 0) -> Received:
        """Receive data, and what fits of the descriptors and credentials that came with it.

        Args:
            fd: the socket.
            count: at most so many bytes.
            control_size: bytes of room for control messages. CMSG_SPACE of one descriptor has room
                for two.
            flags: MSG_PEEK, MSG_DONTWAIT, MSG_CMSG_CLOEXEC.

        Returns:
            All of it. The descriptors are in this task's table.

        Raises:
            OSError: EBADF, ENOTSOCK; ECONNRESET; EAGAIN. Never for want of room: MSG_CTRUNC.
            Blocked: there is nothing.

        Kernel:
            recvmsg(2), unix(7).
        """
        sock = self._socket(fd)
        return self.operate(sock, lambda: self._receive(sock, count, control_size, flags))

    def _receive(self, sock: UnixSocket, count: int, control_size: int, flags: int) -> Received:
        if flags & socket.MSG_OOB:
            raise failure(errno.EOPNOTSUPP)
        data, told, cargo = sock.receive(count, flags)
        layout = Layout(self, control_size, flags)
        if cargo is not None:
            layout.fill(sock, cargo)
        return Received(data, tuple(layout.control), told | layout.flags)

    @system_call
    def setsockopt(self, fd: int, name: int, value: int) -> None:
        """Set SO_PASSCRED, SO_PASSPIDFD or SO_PASSRIGHTS.

        Raises:
            OSError: EBADF, ENOTSOCK; ENOPROTOOPT, any other option.
        """
        sock = self._socket(fd)
        self.operate(sock, lambda: self._set_option(sock, name, value))

    def _set_option(self, sock: UnixSocket, name: int, value: int) -> None:
        if name not in _OPTIONS:
            raise failure(errno.ENOPROTOOPT)
        setattr(sock, _OPTIONS[name], bool(value))

    @system_call
    def getsockopt(self, fd: int, name: int) -> int | Credentials:
        """Read an option.

        Returns:
            Its value; for SO_PEERCRED the credentials of who made the pair; for SO_PEERPIDFD the number
            of a new pidfd of it, close-on-exec, even if it was reaped.

        Raises:
            OSError: EBADF, ENOTSOCK; ENOPROTOOPT, any other option; EMFILE for a pidfd.
        """
        sock = self._socket(fd)
        return self.operate(sock, lambda: self._option(sock, name))

    def _option(self, sock: UnixSocket, name: int) -> int | Credentials:
        if name in _OPTIONS:
            return int(getattr(sock, _OPTIONS[name]))
        process, pid, uid, gid = sock.creator
        assert process is not None
        if name == socket.SO_PEERCRED:
            return Credentials(pid, uid, gid)
        if name == SO_PEERPIDFD:
            return self.pidfd_of(process, pid)
        raise failure(errno.ENOPROTOOPT)

    def as_sender(self) -> Sender:
        """Return the task as the kernel names it to receivers."""
        return Sender(self.process, self.process.pid, self.uid, self.gid)

    def _socket(self, fd: int) -> UnixSocket:
        """Return the socket behind a number, with a reference for the caller."""
        file = self.fget(fd)
        if not isinstance(file, UnixSocket):
            self.kernel.fput(file)
            raise failure(errno.ENOTSOCK)
        return file
