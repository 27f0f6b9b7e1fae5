"""Streams of the Unix family: how they are made, and what a Channel needs of them."""

from libc.errno cimport errno as last_errno
from libc.string cimport memcpy, memset

from fdproof._descriptor cimport Descriptor, borrowed
from fdproof._syscalls cimport F_GETFD, failed, fdp_fcntl
from fdproof.passing._ancillary cimport (
    AF_UNIX, EBADF, ENOPROTOOPT, SOCK_STREAM, SOL_SOCKET, SO_DOMAIN, SO_TYPE, fdp_socket_option, sockaddr_un
)

import os

from fdproof._errors import UnsupportedError

__all__ = ["accepted", "ask_who_sends", "check_stream", "connected", "opened", "shut_down"]

cdef extern from "sys/socket.h" nogil:
    enum:
        SOCK_CLOEXEC
        SOCK_NONBLOCK
        SO_ACCEPTCONN
        SO_PASSCRED
    ctypedef unsigned int socklen_t
    int accept4(int sock, void *address, void *length, int flags)
    int connect(int sock, const void *address, socklen_t length)
    int setsockopt(int sock, int level, int option, const void *value, socklen_t length)
    int shutdown(int sock, int how)
    int socket(int family, int kind, int protocol)

cdef enum:
    # Newer than the oldest supported headers.
    SO_PASSPIDFD = 76


def connected(path):
    """Connect a stream to whoever listens at a path, without waiting for room in the queue there.

    Args:
        path: str or path-like.

    Returns:
        The owner of a socket that does not block.

    Raises:
        BlockingIOError: EAGAIN, as many as fit wait there already.
        FileNotFoundError, ConnectionRefusedError: there is nothing, or nobody.
        ValueError: the path is too long.
        OSError: with the path, as connect(2) says; EMFILE, ENFILE.
    """
    cdef bytes encoded = os.fsencode(path)
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef sockaddr_un address
    cdef int result
    if b"\0" in encoded or <size_t>len(encoded) >= sizeof(address.sun_path):
        raise ValueError(
            f"path: {path!r} is longer than the {sizeof(address.sun_path) - 1} bytes that an address has room for, "
            "or contains a NUL byte"
        )
    memset(&address, 0, sizeof(address))
    address.sun_family = AF_UNIX
    memcpy(address.sun_path, <char *>encoded, len(encoded))
    result = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
    if result < 0:
        failed(last_errno)
    owner._number = result
    if connect(result, &address, sizeof(address)) < 0:
        result = last_errno
        owner.close()
        failed(result, path)
    return owner


def accepted(sock):
    """Take the next connection of a socket that listens and does not block.

    Returns:
        Its owner.

    Raises:
        BlockingIOError: EAGAIN, nobody has connected.
        OSError: EMFILE, ENFILE, ENOMEM.

    Kernel: accept4(2).
    """
    cdef int number = borrowed(sock, "sock")
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result = accept4(number, NULL, NULL, SOCK_CLOEXEC)
    if result < 0:
        failed(last_errno)
    owner._number = result
    return owner


def ask_who_sends(sock):
    """Have each message that arrives from now on bring its sender's credentials and pidfd.

    Raises:
        UnsupportedError: before Linux 6.5.

    Kernel: SO_PASSCRED, SO_PASSPIDFD (6.5), unix(7).
    """
    cdef int number = borrowed(sock, "sock")
    cdef int on = 1
    for option in (SO_PASSCRED, SO_PASSPIDFD):
        if setsockopt(number, SOL_SOCKET, option, &on, sizeof(on)) < 0:
            if last_errno == ENOPROTOOPT:
                raise UnsupportedError("SO_PASSPIDFD", "6.5", ENOPROTOOPT)
            failed(last_errno)


def check_stream(sock):
    """Refuse what is no stream of the Unix family.

    Args:
        sock: a number, or an object with one.

    Raises:
        ValueError: it is another kind of socket, or listens.
        OSError: ENOTSOCK, EBADF.
    """
    cdef int number = borrowed(sock, "sock")
    cdef int kind = fdp_socket_option(number, SO_TYPE)
    if kind < 0:
        failed(-kind)
    if fdp_socket_option(number, SO_DOMAIN) != AF_UNIX or kind != SOCK_STREAM:
        raise ValueError(
            f"sock: descriptor {number} is no Unix stream socket (AF_UNIX, SOCK_STREAM), and a Channel needs one"
        )
    if fdp_socket_option(number, SO_ACCEPTCONN) == 1:
        raise ValueError(f"sock: descriptor {number} listens: a Channel takes the socket that accept() returns")


def opened(files):
    """Return ``files`` as a tuple; each is open.

    Raises:
        OSError: EBADF, one is not, with its index.
        ClosedError: the owner of one owns nothing any more.
        TypeError: they are no descriptors.
    """
    cdef int number
    cdef tuple given
    try:
        given = tuple(files)
    except TypeError:
        raise TypeError(f"files: takes several descriptors, as in [one, two], not {files!r}") from None
    for index, file in enumerate(given):
        number = borrowed(file, f"files[{index}]")
        if fdp_fcntl(number, F_GETFD, 0) < 0:
            raise OSError(EBADF, f"files[{index}]: descriptor {number} is not open")
    return given


def shut_down(sock, int how):
    """Close one direction of a connection, for all who have it.

    Args:
        sock: a number, or an object with one.
        how: ``socket.SHUT_RD`` or ``SHUT_WR``.

    Raises:
        OSError: as shutdown(2) says.
    """
    if shutdown(borrowed(sock, "sock"), how) < 0:
        failed(last_errno)
