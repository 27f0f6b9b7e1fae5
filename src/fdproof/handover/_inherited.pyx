"""Descriptors that were open when this process began: owning them, and telling what they are."""

from fdproof._descriptor cimport Descriptor, borrowed
from fdproof._syscalls cimport FD_CLOEXEC, F_GETFD, F_SETFD, failed, fdp_fcntl
from fdproof.passing._ancillary cimport EBADF, SO_DOMAIN, SO_TYPE, fdp_socket_option

__all__ = ["adopt", "socket_kind"]

cdef extern from "errno.h":
    int ENOTSOCK

cdef extern from "sys/socket.h":
    enum:
        SO_ACCEPTCONN
        SO_PROTOCOL


def adopt(int first, int count):
    """Own ``count`` descriptors from number ``first`` on, close-on-exec: all of them or none.

    Returns:
        Their owners.

    Raises:
        OSError: EBADF, one of them is not open, or is close-on-exec, so that no exec can have left it
            here: it is somebody else's. None was touched.
    """
    cdef int index, flags
    cdef list owners
    for index in range(count):
        flags = fdp_fcntl(first + index, F_GETFD, 0)
        if flags < 0:
            raise OSError(EBADF, f"descriptor {first + index} is not open")
        if flags & FD_CLOEXEC:
            raise OSError(
                EBADF,
                f"descriptor {first + index} is close-on-exec: it was opened, or taken, since this "
                "program began",
            )
    owners = [Descriptor.__new__(Descriptor) for _ in range(count)]
    # INVARIANT: nothing from here on fails or runs other code, so there is no half of it.
    for index in range(count):
        fdp_fcntl(first + index, F_SETFD, FD_CLOEXEC)
        (<Descriptor>owners[index])._number = first + index
    return owners


def socket_kind(file):
    """Return family, type, protocol, and whether it listens; None for what is no socket.

    Args:
        file: a Descriptor, an object with ``fileno()``, or a number.

    Kernel: getsockopt(2), SO_DOMAIN and SO_PROTOCOL (2.6.32).
    """
    cdef int number = borrowed(file, "file")
    cdef int family = fdp_socket_option(number, SO_DOMAIN)
    # KERNEL: a file that was opened with O_PATH answers as if it were closed.
    if family == -ENOTSOCK or family == -EBADF:
        return None
    if family < 0:
        failed(-family)
    return (
        family,
        fdp_socket_option(number, SO_TYPE),
        fdp_socket_option(number, SO_PROTOCOL),
        fdp_socket_option(number, SO_ACCEPTCONN) == 1,
    )
