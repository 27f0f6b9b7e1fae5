"""The timeout of a ``socket.socket``, which Python keeps by making the descriptor non-blocking."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from fdproof._syscalls cimport failed
from fdproof.passing._ancillary cimport EAGAIN, EINTR
from fdproof.process._pidfd cimport fdp_clock_ns, fdp_poll

import socket

__all__ = ["Patience"]


@cython.final
cdef class Patience:
    """How long a call on a socket that says EAGAIN may go on; counted from its creation.

    Args:
        sock: only a ``socket.socket`` with a timeout has any.
    """

    def __init__(self, sock):
        cdef object seconds = sock.gettimeout() if isinstance(sock, socket.socket) else 0.0
        # KERNEL: a blocking socket says EAGAIN when its own SO_RCVTIMEO or SO_SNDTIMEO is over.
        self._deadline = fdp_clock_ns() + <long long>(seconds * 1e9) if seconds else -1

    cdef int wait(self, int number, short events) except -1:
        """Wait until the socket is ready.

        Raises:
            BlockingIOError: there is nothing to wait for.
            TimeoutError: the time is over.
        """
        cdef long long left
        cdef int result
        if self._deadline < 0:
            failed(EAGAIN)
        while True:
            left = self._deadline - fdp_clock_ns()
            if left <= 0:
                raise TimeoutError("timed out")
            with nogil:
                result = fdp_poll(number, events, left)
            if result > 0:
                return 0
            if result == -EINTR:
                PyErr_CheckSignals()
            elif result < 0:
                failed(-result)
