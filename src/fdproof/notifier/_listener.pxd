# cython: language_level=3

from fdproof._descriptor cimport Descriptor


cdef class Listener:
    cdef readonly Descriptor descriptor
    cdef Descriptor _stop
    cdef bint _stopped

    cdef int _wait(self, long long deadline) except -1
