"""Message: what one receive brought, and the owner of it."""

cimport cython
from cpython.tuple cimport PyTuple_GET_SIZE

from fdproof._descriptor cimport Descriptor, close_all

from fdproof.process import Process

__all__ = ["Message"]


@cython.final
@cython.freelist(8)
cdef class Message:
    """What came in one message: bytes, descriptors, and who sent it.

    Each descriptor has its own owner in ``files``; the message closes those that nobody took further
    (``into_file``, ``into_socket``, ``detach``). Dropped without being closed, each open one warns.
    Leaving the ``with`` block closes them.

    Args:
        data: the bytes.
        files: Descriptors, which the message closes from now on.
        credentials: Credentials, or None.
        process: a Process, which the message closes from now on, or None.
        address: as ``address``.
        flags: as ``flags``.

    Attributes:
        data: the bytes; none is the end of a stream.
        files: the descriptors in the order in which they were sent, close-on-exec.
        credentials: what the sender stated; None unless the socket asks for it (SO_PASSCRED).
        process: the process that the credentials name, which is the sender itself unless it was privileged
            and stated another; None unless the socket asks for it (SO_PASSPIDFD). Never a child.
        address: the sender's address where it has one: str is a path, bytes an abstract name.
        flags: what the kernel says of the message, ``socket.MSG_EOR`` for one.
    """

    def __init__(self, bytes data not None=b"", files=(), *, credentials=None, process=None, address=None, int flags=0):
        cdef tuple owned = tuple(files)
        for index, file in enumerate(owned):
            if not isinstance(file, Descriptor):
                raise TypeError(f"files[{index}]: takes a Descriptor, which owns its number, not {file!r}")
        if process is not None and not isinstance(process, Process):
            raise TypeError(f"process: takes a Process, not {process!r}")
        self.data = data
        self.files = owned
        self.credentials = credentials
        self.process = process
        self.address = address
        self.flags = flags

    def __cinit__(self):
        self.data = b""
        self.files = ()

    def __reduce__(self):
        raise TypeError(
            "a Message cannot be pickled or copied, because it owns descriptors: pass it through "
            "multiprocessing, or send its data and files over a Unix socket"
        )

    def close(self):
        """Close the descriptors and the process that the message still owns; twice is quiet.

        Raises:
            OSError: the first that closing one of them met, as ``Descriptor.close`` says. All are
                closed either way.
        """
        try:
            if PyTuple_GET_SIZE(self.files):
                close_all(self.files)
        finally:
            if self.process is not None:
                self.process.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __repr__(self):
        parts = [f"{len(self.data)} bytes"]
        if self.files:
            parts.append(f"{len(self.files)} files")
        for name in ("credentials", "process", "address"):
            value = getattr(self, name)
            if value is not None:
                parts.append(f"{name}={value!r}")
        return f"<fdproof.passing.Message {', '.join(parts)}>"
