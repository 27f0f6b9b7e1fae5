# cython: language_level=3

from fdproof._descriptor cimport Descriptor


cdef class Child:
    cdef readonly int pid
    cdef readonly Descriptor pidfd
    # OWNERSHIP: the process that must end and reap this one, 0 if nobody here must.
    cdef int _parent
    cdef bint _known
    cdef int _returncode

    cdef int _look(self) except -2
    cdef int _status_is_lost(self) except -1
    cdef int _end(self, int number) except -1
