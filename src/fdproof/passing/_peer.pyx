"""peer: who is at the other end of a connected Unix socket, from one moment and as a process."""

from libc.stdlib cimport free, malloc

from fdproof._descriptor cimport Descriptor, borrowed
from fdproof._syscalls cimport failed
from fdproof.passing._ancillary cimport *

import errno
import os

from fdproof._errors import UnsupportedError
from fdproof.passing._identity import process_behind
from fdproof.passing._records import Peer

__all__ = ["peer"]


def peer(sock):
    """Ask who is at the other end of a connected Unix socket.

    It is whoever called connect(2), listen(2) or socketpair(2), with the user and groups of that
    moment; the socket may have gone to another process since.

    Args:
        sock: a Descriptor, a ``socket.socket``, or anything else with a number.

    Returns:
        The Peer, which owns the process.

    Raises:
        UnsupportedError: before Linux 6.5. There is no falling back to the pid, which may mean
            another process by now.
        ProcessLookupError: ESRCH, the peer was reaped, before Linux 6.16.
        OSError: ENODATA, the socket is not connected, or no Unix socket; ENOTSOCK; EMFILE, ENFILE.

    Kernel: SO_PEERPIDFD (6.5), SO_PEERCRED, SO_PEERGROUPS (4.13), unix(7).
    """
    cdef int number = borrowed(sock, "sock")
    cdef Descriptor pidfd = Descriptor.__new__(Descriptor)
    cdef int taken = -1
    cdef socklen_t length = sizeof(taken)
    cdef ucred stated
    cdef int result = fdp_getsockopt(number, SO_PEERPIDFD, &taken, &length)
    if result < 0:
        raise _no_pidfd(-result)
    # OWNERSHIP: the number that the kernel wrote has its owner before anything else can happen.
    pidfd._number = taken
    length = sizeof(stated)
    try:
        result = fdp_getsockopt(number, SO_PEERCRED, &stated, &length)
        if result < 0:
            failed(-result)
        groups = _groups_of_peer(number)
        return Peer(stated.pid, stated.uid, stated.gid, groups, process_behind(pidfd, stated.pid))
    except BaseException:
        pidfd.close()
        raise


cdef tuple _groups_of_peer(int number):
    cdef socklen_t length = 0
    cdef gid_t *groups = NULL
    cdef size_t index
    cdef int result = fdp_getsockopt(number, SO_PEERGROUPS, NULL, &length)
    if result == -ERANGE:
        groups = <gid_t *>malloc(length)
        if groups == NULL:
            raise MemoryError
        result = fdp_getsockopt(number, SO_PEERGROUPS, groups, &length)
    try:
        if result < 0:
            failed(-result)
        return tuple([groups[index] for index in range(length // sizeof(gid_t))])
    finally:
        free(groups)


cdef object _no_pidfd(int number):
    if number == ENOPROTOOPT:
        return UnsupportedError("SO_PEERPIDFD", "6.5", number)
    if number == ENODATA:
        return OSError(number, "sock: has no peer: it is not connected, or no Unix socket")
    if number == ESRCH or number == EINVAL:
        # KERNEL: before 6.16 there is no pidfd of a reaped process; 6.5 says EINVAL.
        return ProcessLookupError(
            errno.ESRCH, "the peer was reaped: before Linux 6.16 only its number is left, which may mean another"
        )
    return OSError(number, os.strerror(number))
