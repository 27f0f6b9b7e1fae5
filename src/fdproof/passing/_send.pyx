"""send: bytes, descriptors and credentials in one message."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyTypeObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.string cimport memcpy, memset

from fdproof._descriptor cimport Descriptor, borrowed, bounded
from fdproof.passing._ancillary cimport *
from fdproof.passing._patience cimport Patience

import os
import socket as _socket

from fdproof.passing._flags import send_flag_bits
from fdproof.passing._records import Credentials
from fdproof.passing._refusal import no_room, send_refused

__all__ = ["send"]

cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(object)

# KERNEL: a Unix stream sends this much whole or not at all, however small its buffer is (SO_SNDBUF, at least
# 4608 bytes, of which one piece takes half).
cdef enum:
    SHORT = 2048

cdef object SOCKET = _socket.socket
cdef object FAMILY = _socket.SocketType.family


def send(sock, data, files=(), *, credentials=None, flags=0, address=None):
    """Send bytes, and with them descriptors and credentials, over a Unix socket.

    The receiver gets descriptors of the same files. They are in the kernel's hands when this
    returns: what the caller does with its own, closing included, no longer matters to them. They travel
    with the first of the bytes.

    Args:
        sock: a connected Unix socket, or an unconnected datagram socket with ``address``: a Descriptor,
            a ``socket.socket``, whose timeout is kept, or anything else with a number.
        data: bytes-like. A stream needs at least one byte to carry descriptors or credentials.
        files: up to 253 descriptors: Descriptors, numbers, objects with ``fileno()``. The caller
            keeps its own.
        credentials: state a process, user and group that the kernel checks. The receiver gets those of
            the sender without it, if it asks for any (SO_PASSCRED).
        flags: ``socket.MSG_DONTWAIT`` or 0. MSG_NOSIGNAL is always set.
        address: where a datagram goes: str is a path, bytes are an abstract name if they begin with
            NUL, and a path otherwise.

    Returns:
        How many bytes were sent. On a stream that does not block, or when a signal came, it may be
        fewer than given; send the rest without the files, which have gone.

    Raises:
        BlockingIOError: EAGAIN, the socket does not block and its buffer is full.
        TimeoutError: the timeout of the ``socket.socket`` is over.
        BrokenPipeError: EPIPE, the peer has closed its socket.
        PermissionError: EPERM, the credentials are not the caller's, or the receiver does not take
            descriptors (SO_PASSRIGHTS).
        OSError: EBADF, with the index of the descriptor that is not open; EINVAL, more than 253
            descriptors, or one of an io_uring; ETOOMANYREFS, too many of this user's descriptors are
            under way; EMSGSIZE, the datagram is too long.
        ValueError: descriptors or credentials with no byte on a stream, or over a socket that is no Unix
            socket: the kernel would report success and lose them.
        FlagError: a flag that does not belong here.

    Kernel: sendmsg(2), unix(7), SCM_RIGHTS and SCM_CREDENTIALS.
    """
    cdef int number = borrowed(sock, "sock")
    cdef int bits = MSG_NOSIGNAL
    cdef tuple given = files if type(files) is tuple else _listed(files)
    cdef Py_ssize_t index, count = PyTuple_GET_SIZE(given)
    cdef ucred stated
    cdef sockaddr_un where
    cdef fdp_control control
    cdef iovec piece
    cdef msghdr message
    cdef int *numbers
    cdef object file
    cdef Py_buffer view
    cdef long long sent
    if type(flags) is not int or flags != 0:
        bits |= <int>send_flag_bits(flags)
    if count > FDP_MOST_FILES:
        raise no_room(count)
    memset(&message, 0, sizeof(message))
    message.msg_control = &control
    if credentials is not None:
        _fill_credentials(&stated, credentials)
        memcpy(fdp_append(&message, SCM_CREDENTIALS, sizeof(stated)), &stated, sizeof(stated))
    if count:
        numbers = <int *>fdp_append(&message, SCM_RIGHTS, count * sizeof(int))
        for index in range(count):
            file = <object>PyTuple_GET_ITEM(given, index)
            if type(file) is Descriptor and (<Descriptor>file)._number >= 0:
                numbers[index] = (<Descriptor>file)._number
            else:
                numbers[index] = borrowed(file, f"files[{index}]")
    if address is not None:
        message.msg_name = &where
        message.msg_namelen = _fill_address(&where, address)
    if not PyObject_CheckBuffer(data):
        raise TypeError(f"data: takes bytes or another buffer, not {data!r}")
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if message.msg_controllen:
            _check_carries(sock, number, view.len)
        else:
            message.msg_control = NULL
        piece.iov_base = view.buf
        piece.iov_len = view.len
        message.msg_iov = &piece
        message.msg_iovlen = 1
        sent = _sent_bytes(sock, number, &message, bits)
        if sent < 0:
            raise send_refused(<int>-sent, number, given, credentials, address)
        return sent
    finally:
        PyBuffer_Release(&view)


cdef long long _sent_bytes(object sock, int number, msghdr *message, int bits) except? -1:
    """Call sendmsg until the message is on its way; returns -errno where the caller can say more."""
    # As in receive, without giving the GIL up. That it is a Unix socket was checked if it carries anything.
    cdef bint at_once = message.msg_controllen and message.msg_iov.iov_len <= SHORT
    cdef Patience patience = None
    cdef long long sent
    while True:
        if at_once:
            sent = fdp_sendmsg(number, message, bits | MSG_DONTWAIT)
        else:
            with nogil:
                sent = fdp_sendmsg(number, message, bits)
        if sent == -EINTR:
            PyErr_CheckSignals()
        elif sent != -EAGAIN or bits & MSG_DONTWAIT:
            return sent
        elif at_once:
            at_once = False
        else:
            if patience is None:
                patience = Patience(sock)
            patience.wait(number, POLLOUT)


cdef tuple _listed(object files):
    if type(files) is list:
        return tuple(<list>files)
    if not isinstance(files, (str, bytes, bytearray, memoryview)):
        try:
            return tuple(files)
        except TypeError:
            if hasattr(files, "__iter__"):
                raise
    raise TypeError(f"files: takes several descriptors, as in [one, two], not {files!r}")


cdef int _check_carries(object sock, int number, Py_ssize_t length) except -1:
    """Refuse what the kernel would report as success and lose."""
    cdef int family
    if isinstance(sock, SOCKET):
        # It knows its family, which saves a system call; its own property makes an enum of it.
        family = Py_TYPE(FAMILY).tp_descr_get(FAMILY, sock, type(sock))
    else:
        family = fdp_socket_option(number, SO_DOMAIN)
    # What is no socket is for the kernel to say.
    if family >= 0 and family != AF_UNIX:
        raise ValueError(
            f"sock: descriptor {number} is no Unix socket, and only those carry descriptors and credentials"
        )
    if length == 0 and fdp_socket_option(number, SO_TYPE) == SOCK_STREAM:
        raise ValueError("data: a stream needs at least one byte to carry descriptors or credentials")
    return 0


cdef int _fill_credentials(ucred *stated, object credentials) except -1:
    if not isinstance(credentials, Credentials):
        raise TypeError(f"credentials: takes Credentials, not {credentials!r}")
    stated.pid = <int>bounded(credentials.pid, "credentials.pid", 0, 0x7fffffff)
    stated.uid = <unsigned int>bounded(credentials.uid, "credentials.uid", 0, 0xffffffff)
    stated.gid = <unsigned int>bounded(credentials.gid, "credentials.gid", 0, 0xffffffff)
    return 0


cdef int _fill_address(sockaddr_un *where, object address) except -1:
    """Returns the length."""
    cdef bytes encoded = os.fsencode(address)
    cdef Py_ssize_t length = len(encoded)
    cdef Py_ssize_t most = sizeof(where.sun_path)
    cdef bint abstract = encoded.startswith(b"\0")
    if not abstract:
        if b"\0" in encoded:
            raise ValueError(f"address: {address!r} contains a NUL byte")
        # A path ends with a NUL, an abstract name with its last byte.
        length += 1
    if length > most:
        raise ValueError(f"address: {address!r} is longer than the {most - (not abstract)} bytes that fit")
    where.sun_family = AF_UNIX
    memcpy(where.sun_path, <char *>encoded, length)
    return <int>(sizeof(where.sun_family) + length)
