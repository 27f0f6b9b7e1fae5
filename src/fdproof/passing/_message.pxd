# cython: language_level=3

cdef class Message:
    cdef readonly bytes data
    cdef readonly tuple files
    cdef readonly object credentials
    cdef readonly object process
    cdef readonly object address
    cdef readonly int flags
    cdef object __weakref__
