"""receive: one message, all of it, each descriptor owned before anything else happens."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uintptr_t
from libc.string cimport memset

from fdproof._descriptor cimport Descriptor, borrowed, bounded
from fdproof._syscalls cimport F_DUPFD_CLOEXEC, failed, fdp_close, fdp_fcntl
from fdproof.passing._ancillary cimport *
from fdproof.passing._message cimport Message
from fdproof.passing._patience cimport Patience
from fdproof.process._pidfd cimport fdp_poll

from fdproof.passing._flags import receive_flag_bits
from fdproof.passing._identity import process_behind
from fdproof.passing._records import Credentials
from fdproof.passing._truncation import truncated

__all__ = ["receive"]

cdef extern from "string.h" nogil:
    size_t strnlen(const char *text, size_t most)

cdef extern from "Python.h":
    PyTypeObject *Py_TYPE(object value)
    int PyTraceMalloc_Track(unsigned int domain, uintptr_t block, size_t size)
    int PyList_SetSlice(list items, Py_ssize_t low, Py_ssize_t high, PyObject *replacement) except -1
    object PyUnicode_DecodeFSDefaultAndSize(const char *text, Py_ssize_t size)

# A message up to here is received on the stack, and copied into bytes of its own length.
cdef enum:
    SHORT = 4096

# Owners that own nothing yet, kept from call to call; None while a call has them. The first is for the
# sender's pidfd, the others are for descriptors and are taken from the end.
cdef list _blank = []


cdef struct Arrived:
    int files
    # The errno of what the kernel kept back and says so; else 0.
    int refused
    int refused_process
    bint has_process
    bint has_credentials
    ucred credentials


def receive(sock, max_bytes, max_files=0, *, peek=False, flags=0):
    """Receive one message with its descriptors, all of them or none.

    A stream knows no messages. The kernel ends one after the bytes that brought descriptors, and
    joins bytes that were sent before to it.

    Args:
        sock: a Unix socket: a Descriptor, a ``socket.socket``, whose timeout is kept, or anything else
            with a number.
        max_bytes: the most bytes to take, from 1 on.
        max_files: the most descriptors to take, 0 to 253.
        peek: leave the message in the socket. The descriptors are a set of their own each time. On a
            stream they are those of the next message that has any, even if none of its bytes fit.
        flags: ``socket.MSG_DONTWAIT`` and ``MSG_WAITALL``. MSG_CMSG_CLOEXEC is always set.

    Returns:
        The Message, which owns what came. Its ``data`` is empty at the end of a stream.

    Raises:
        TruncatedError: something did not arrive: too many descriptors, a full table here, a refusal of
            the kernel, a datagram too long. It owns the message with everything that did.
        BlockingIOError: EAGAIN, the socket does not block and holds nothing.
        TimeoutError: the timeout of the ``socket.socket`` is over.
        ConnectionResetError: ECONNRESET, the peer closed its socket with something unread in it.
        OSError: as recvmsg(2) says.
        FlagError: a flag that does not belong here.

    Kernel: recvmsg(2), unix(7); SCM_PIDFD (6.5).
    """
    cdef int number = borrowed(sock, "sock")
    cdef int bits = MSG_CMSG_CLOEXEC | (MSG_PEEK if peek else 0)
    cdef Py_ssize_t most_bytes = bounded(max_bytes, "max_bytes", 1, 0x7fffffff)
    cdef int most_files = _files_wanted(max_files)
    # KERNEL: room for one descriptor admits two, because headers are aligned; more than asked may come.
    cdef size_t room = (CMSG_SPACE(most_files * sizeof(int)) if most_files else 0) + FDP_RESERVED_ROOM
    cdef fdp_control control
    cdef sockaddr_un sender
    cdef iovec piece
    cdef msghdr header
    cdef Arrived arrived
    cdef Message message
    cdef bytes data = None
    cdef char[SHORT] short
    cdef list owners
    cdef long long received
    cdef bint stopped, full
    if type(flags) is not int or flags != 0:
        bits |= <int>receive_flag_bits(flags)
    memset(&header, 0, sizeof(header))
    memset(&arrived, 0, sizeof(arrived))
    if most_bytes > SHORT:
        data = PyBytes_FromStringAndSize(NULL, most_bytes)
        piece.iov_base = PyBytes_AS_STRING(data)
    else:
        piece.iov_base = short
    piece.iov_len = most_bytes
    header.msg_name = &sender
    header.msg_namelen = sizeof(sender)
    header.msg_iov = &piece
    header.msg_iovlen = 1
    header.msg_control = &control
    header.msg_controllen = room
    # OWNERSHIP: all owners that can be needed exist before the kernel makes descriptors.
    owners = _blank_owners(1 + <int>((room - CMSG_LEN(0)) // sizeof(int)))
    received = _received_bytes(sock, number, &header, bits, owners)
    _own(&arrived, &header, owners)
    # There was room for as many as were asked for: only the kernel can have kept them back.
    stopped = header.msg_flags & MSG_CTRUNC and arrived.files <= most_files
    full = stopped and _table_is_full(number)
    message = Message.__new__(Message)
    message.files = _taken(owners, arrived.files)
    if data is None:
        message.data = PyBytes_FromStringAndSize(short, received)
    else:
        message.data = data if received == most_bytes else data[:received]
    message.flags = header.msg_flags & ~MSG_CMSG_CLOEXEC
    if header.msg_namelen > sizeof(sender.sun_family):
        message.address = _address_of(&sender, header.msg_namelen)
    if arrived.has_credentials:
        message.credentials = Credentials(
            arrived.credentials.pid, arrived.credentials.uid, arrived.credentials.gid
        )
    if arrived.has_process:
        message.process = process_behind(_sender_pidfd(owners), arrived.credentials.pid)
    if (
        header.msg_flags & (MSG_CTRUNC | MSG_TRUNC)
        or arrived.files > most_files or arrived.refused or arrived.refused_process
    ):
        raise truncated(
            message,
            asked=most_files,
            stopped=stopped,
            table_full=full,
            refused=arrived.refused,
            refused_process=arrived.refused_process,
        )
    return message


cdef int _files_wanted(object max_files) except -1:
    cdef long long most = bounded(max_files, "max_files", 0, 0x7fffffff)
    if most > FDP_MOST_FILES:
        raise ValueError(
            f"max_files: one message carries at most {FDP_MOST_FILES} descriptors, not {most}: "
            "receive several messages, or use a Channel, which does"
        )
    return <int>most


cdef list _blank_owners(int count):
    global _blank
    cdef list owners = _blank
    # A second thread that receives meanwhile makes its own.
    _blank = None
    if owners is None:
        owners = []
    while PyList_GET_SIZE(owners) < count:
        owners.append(Descriptor.__new__(Descriptor))
    return owners


cdef long long _received_bytes(object sock, int number, msghdr *header, int bits, list owners) except -1:
    """Call recvmsg until it brings something; if it fails for good, give the owners back."""
    global _blank
    # What is there already is taken without giving the GIL up: beside a busy thread, getting it back takes
    # milliseconds. Much data is worth that.
    cdef bint at_once = header.msg_iov.iov_len <= SHORT and not bits & MSG_WAITALL
    cdef size_t room = header.msg_controllen
    cdef bint looked_again = False
    cdef Patience patience = None
    cdef long long received
    try:
        while True:
            if at_once:
                received = fdp_recvmsg(number, header, bits | MSG_DONTWAIT)
            else:
                with nogil:
                    received = fdp_recvmsg(number, header, bits)
            if received == 0 and header.msg_controllen == 0 and not looked_again and _peer_is_gone(number):
                # KERNEL: a non-blocking receive on SOCK_SEQPACKET that finds nothing says end if the peer has
                # closed by then, even if it sent something between the two looks.
                looked_again = True
                header.msg_controllen = room
                header.msg_namelen = sizeof(sockaddr_un)
                continue
            if received >= 0:
                return received
            if received == -EINTR:
                PyErr_CheckSignals()
            elif received != -EAGAIN or bits & MSG_DONTWAIT:
                failed(<int>-received)
            elif at_once:
                at_once = False
            else:
                if patience is None:
                    patience = Patience(sock)
                patience.wait(number, POLLIN)
    except BaseException:
        _blank = owners
        raise


cdef bint _peer_is_gone(int number) noexcept:
    """Tell whether a SOCK_SEQPACKET gets no more messages than it has."""
    return (
        fdp_socket_option(number, SO_TYPE) == SOCK_SEQPACKET
        and fdp_poll(number, POLLRDHUP, 0) & POLLRDHUP
    )


cdef void _own(Arrived *arrived, msghdr *header, list owners) noexcept:
    """Give each descriptor that came its owner. INVARIANT: cannot fail, and runs no other code."""
    cdef cmsghdr *part = CMSG_FIRSTHDR(header)
    cdef Py_ssize_t last = PyList_GET_SIZE(owners) - 1
    cdef int *numbers
    cdef size_t index, count
    while part != NULL:
        if part.cmsg_level == SOL_SOCKET:
            numbers = <int *>CMSG_DATA(part)
            count = (part.cmsg_len - CMSG_LEN(0)) // sizeof(int)
            if part.cmsg_type == SCM_RIGHTS:
                for index in range(count):
                    if numbers[index] < 0:
                        # KERNEL: SO_RIGHTS_NOTRUNC (7.3) puts an errno in the place of what was refused.
                        arrived.refused = -numbers[index]
                    else:
                        (<Descriptor>PyList_GET_ITEM(owners, last - arrived.files))._number = numbers[index]
                        arrived.files += 1
            elif part.cmsg_type == SCM_PIDFD and count == 1:
                if numbers[0] < 0:
                    arrived.refused_process = -numbers[0]
                else:
                    (<Descriptor>PyList_GET_ITEM(owners, 0))._number = numbers[0]
                    arrived.has_process = True
            elif part.cmsg_type == SCM_CREDENTIALS and part.cmsg_len == CMSG_LEN(sizeof(ucred)):
                arrived.credentials = (<ucred *>numbers)[0]
                arrived.has_credentials = True
        part = CMSG_NXTHDR(header, part)


cdef bint _table_is_full(int number) noexcept:
    """Tell whether a descriptor was refused for want of a number; asked at once, by taking one."""
    cdef int copy = fdp_fcntl(number, F_DUPFD_CLOEXEC, 0)
    if copy >= 0:
        fdp_close(copy)
    # KERNEL: under a limit of 0 the lowest number is out of range already, which is EINVAL.
    return copy == -EMFILE or copy == -EINVAL


cdef tuple _taken(list owners, int count):
    """Move the owners of what came into a tuple, and keep the blank ones for the next call."""
    global _blank
    cdef tuple files = PyTuple_New(count)
    cdef Py_ssize_t size = PyList_GET_SIZE(owners)
    cdef Py_ssize_t index
    cdef object owner
    for index in range(count):
        owner = <object>PyList_GET_ITEM(owners, size - 1 - index)
        Py_INCREF(owner)
        PyTuple_SET_ITEM(files, index, owner)
        # It was made by an earlier call, and a ResourceWarning should name this one.
        PyTraceMalloc_Track(0, <uintptr_t><void *>owner, Py_TYPE(owner).tp_basicsize)
    if count:
        PyList_SetSlice(owners, size - count, size, NULL)
    if (<Descriptor>PyList_GET_ITEM(owners, 0))._number < 0:
        _blank = owners
    return files


cdef Descriptor _sender_pidfd(list owners):
    global _blank
    cdef Descriptor pidfd = <Descriptor>PyList_GET_ITEM(owners, 0)
    owners[0] = Descriptor.__new__(Descriptor)
    _blank = owners
    return pidfd


cdef object _address_of(sockaddr_un *sender, size_t length):
    cdef size_t name = min(length, sizeof(sockaddr_un)) - sizeof(sender.sun_family)
    if sender.sun_family != AF_UNIX:
        return None
    if sender.sun_path[0] == 0:
        return sender.sun_path[:name]
    return PyUnicode_DecodeFSDefaultAndSize(sender.sun_path, strnlen(sender.sun_path, name))
