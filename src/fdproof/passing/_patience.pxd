# cython: language_level=3

cdef class Patience:
    # When it ends, on the monotonic clock; negative: there is none.
    cdef long long _deadline

    cdef int wait(self, int number, short events) except -1
