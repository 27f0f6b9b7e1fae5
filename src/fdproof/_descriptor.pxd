# cython: language_level=3

cdef class Descriptor:
    # INVARIANT: the number that this object alone must close, or -1.
    cdef int _number
    cdef object __weakref__

    cdef int _held(self) except -1


cdef class Pair:
    cdef readonly Descriptor first
    cdef readonly Descriptor second


cdef long long bounded(object value, str name, long long low, long long high) except? -1
cdef bint wants_inheritable(object value) except -1
cdef int borrowed(object value, str name) except -1
cdef int close_all(tuple owners) except -1
