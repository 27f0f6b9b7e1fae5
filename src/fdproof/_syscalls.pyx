"""One function per system call: no policy, no ownership, errors as OSError.

Calls that create a descriptor are not here: they live in ``_creating``, where the owner
is made inside the same compiled call.
"""

import os

__all__ = ["close_range", "fcntl", "kcmp", "prctl"]


cdef int failed(int number, object path=None) except -1:
    """Raise the OSError for errno ``number``, with the path that it is about."""
    if path is None:
        raise OSError(number, os.strerror(number))
    raise OSError(number, os.strerror(number), path)


def close_range(unsigned int first, unsigned int last, unsigned int flags=0):
    """Close the descriptors from ``first`` to ``last``, or mark them (close_range(2), 5.9)."""
    cdef int result = fdp_close_range(first, last, flags)
    if result < 0:
        failed(-result)


def fcntl(int number, int command, long argument=0):
    """Act on a descriptor by number (fcntl(2)).

    Not for commands that create a descriptor: those belong to ``Descriptor.duplicate``.
    """
    cdef int result = fdp_fcntl(number, command, argument)
    if result < 0:
        failed(-result)
    return result


def kcmp(int first, int second, int kind, unsigned long one, unsigned long two):
    """Compare two kernel objects of two processes: 0 means the same (kcmp(2), 3.5)."""
    cdef int result = fdp_kcmp(first, second, kind, one, two)
    if result < 0:
        failed(-result)
    return result


def prctl(int option, unsigned long argument=0):
    """Act on the calling process (prctl(2))."""
    cdef int result = fdp_prctl(option, argument)
    if result < 0:
        failed(-result)
    return result
