"""Owned descriptors: the sole owner of a number, and a pair of them.

The calls that create one together with its owner are in ``_creating``.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from fdproof._syscalls cimport *

import errno
import io
import os
import socket as _socket

from fdproof._errors import ClosedError, FlagError, StateError, UnsupportedError
from fdproof._flags import FileFlags, descriptor_flags, file_flag_bits

__all__ = ["Descriptor", "Pair", "duplicate_of"]

cdef extern from "errno.h":
    int errno_EBADF "EBADF"
    int errno_EINTR "EINTR"
    int errno_EINVAL "EINVAL"

cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    int PyErr_ResourceWarning(object source, Py_ssize_t stack_level, const char *format, ...) except -1

cdef int ACCESS_AND_BIRTH_FLAGS = ~(os.O_APPEND | os.O_NONBLOCK | os.O_ASYNC | os.O_DIRECT | os.O_NOATIME)
cdef int FILE_FLAGS = 0
# The method that a socket.socket wraps, of the class in C.
cdef object raw_detach = _socket.SocketType.detach
cdef enum:
    CLOSED_AT_ONCE = 256
for _member in FileFlags.__members__.values():
    FILE_FLAGS |= _member.value


@cython.final
cdef class Descriptor:
    """The sole owner of a descriptor of this process.

    The number is forgotten before close(2) is called, and close is never retried. An owner
    that is garbage-collected while open warns (ResourceWarning, with the place of its
    creation when tracemalloc runs) and closes. It has a ``fileno()``, so it works wherever
    Python takes an object with one.

    Not safe to close in one thread while another thread uses the number: the kernel
    may give the number to somebody else in between.

    Args:
        source: a descriptor number, or an object with ``detach()`` (a socket, another
            Descriptor), which gives its number up. File objects cannot give theirs up.
        inheritable: leave close-on-exec off. Otherwise it is switched on, whatever it was.

    Returns:
        The owner. The source no longer owns anything.

    Raises:
        OSError: EBADF, the number is not open.
        ClosedError: the source has no number any more.
        TypeError: the source can give no number up; it is left as it was.
        FlagError: ``inheritable`` is not a bool.
    """

    def __cinit__(self):
        self._number = -1

    def __init__(self, source, *, inheritable=False):
        cdef bint wanted = wants_inheritable(inheritable)
        cdef int number
        if self._number >= 0:
            raise StateError(f"this owner already holds descriptor {self._number}")
        if isinstance(source, int) and not isinstance(source, bool):
            if source < 0 or source > 0x7fffffff:
                raise OSError(errno.EBADF, f"source: {source} is not a descriptor number")
            number = source
        else:
            number = _detached(source)
        adopt_number(self, number, wanted)

    def __reduce__(self):
        raise TypeError(
            "a Descriptor cannot be pickled or copied: use duplicate() in this process; import fdproof.passing "
            "to pass it through multiprocessing, and use fdproof.passing.send to reach any other process"
        )

    cdef int _held(self) except -1:
        if self._number < 0:
            raise ClosedError("this Descriptor owns nothing: it was closed, detached or handed over")
        return self._number

    def fileno(self):
        """Return the number, which stays owned by this object.

        Raises:
            ClosedError: it owns nothing any more.
        """
        return self._held()

    @property
    def closed(self):
        """True when this object owns no descriptor: closed, detached or handed over."""
        return self._number < 0

    def detach(self):
        """Give the number up without closing it.

        Returns:
            The number, owned by the caller. A signal handler that raises between this return and
            the caller's assignment loses it: prefer ``into_file`` and ``into_socket``.

        Raises:
            ClosedError: it owns nothing any more.
        """
        cdef int number = self._held()
        self._number = -1
        return number

    def close(self):
        """Close the descriptor; closing twice is quiet.

        Raises:
            OSError: EBADF, somebody else closed the number before; EIO, ENOSPC, EDQUOT, data
                written earlier was lost. Either way the descriptor is gone.

        Kernel: close(2). EINTR is no error: Linux has freed the number by then.
        """
        cdef int number = self._number
        cdef int result
        if number < 0:
            return
        # OWNERSHIP: forgotten before it is closed, so that nothing closes it a second time.
        self._number = -1
        with nogil:
            result = fdp_close(number)
        if result < 0:
            close_failed(number, result)

    def __enter__(self):
        self._held()
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __del__(self):
        cdef int number = self._number
        if number < 0:
            return
        self._number = -1
        try:
            PyErr_ResourceWarning(self, 1, b"unclosed descriptor %d", number)
        finally:
            fdp_close(number)

    def __repr__(self):
        if self._number < 0:
            return "<fdproof.Descriptor closed>"
        return f"<fdproof.Descriptor {self._number}>"

    @property
    def inheritable(self):
        """Whether the descriptor survives an exec; False is close-on-exec (F_GETFD, F_SETFD)."""
        cdef int flags = fdp_fcntl(self._held(), F_GETFD, 0)
        if flags < 0:
            failed(-flags)
        return not flags & FD_CLOEXEC

    @inheritable.setter
    def inheritable(self, value):
        cdef int result = fdp_fcntl(self._held(), F_SETFD, 0 if wants_inheritable(value) else FD_CLOEXEC)
        if result < 0:
            failed(-result)

    @property
    def status(self):
        """The file's status flags, shared by all its descriptors (F_GETFL, F_SETFL).

        Setting changes APPEND, ASYNC, DIRECT, NOATIME and NONBLOCK. The kernel ignores a change of
        any other, so that is a FlagError here; ``descriptor.status |= FileFlags.NONBLOCK`` works.
        """
        cdef int bits = fdp_fcntl(self._held(), F_GETFL, 0)
        if bits < 0:
            failed(-bits)
        # The kernel adds marks of its own, O_LARGEFILE for one.
        return FileFlags(bits & FILE_FLAGS)

    @status.setter
    def status(self, value):
        cdef int number = self._held()
        cdef int wanted = file_flag_bits(value, "status")
        cdef int now = fdp_fcntl(number, F_GETFL, 0)
        cdef int result
        if now < 0:
            failed(-now)
        if (now ^ wanted) & FILE_FLAGS & ACCESS_AND_BIRTH_FLAGS:
            fixed = FileFlags((now ^ wanted) & FILE_FLAGS & ACCESS_AND_BIRTH_FLAGS)
            raise FlagError(
                f"status: {fixed!s} is fixed when the file is opened; only APPEND, ASYNC, DIRECT, "
                "NOATIME and NONBLOCK can change (read status, change it, write it back)"
            )
        result = fdp_fcntl(number, F_SETFL, wanted)
        if result < 0:
            failed(-result)

    def duplicate(self, *, at_least=0, inheritable=False):
        """Make a second descriptor of the same file.

        Args:
            at_least: the lowest number it may have; the lowest free one from there is taken.
            inheritable: leave close-on-exec off.

        Returns:
            Its owner; offset and status flags are shared with this one.

        Raises:
            OSError: EMFILE, no number is free; EINVAL, ``at_least`` is beyond RLIMIT_NOFILE.
            ClosedError: this owner owns nothing any more.

        Kernel: fcntl(2), F_DUPFD_CLOEXEC (2.6.24).
        """
        return duplicate_of(self, at_least, wants_inheritable(inheritable))

    def same_file(self, other):
        """Tell whether another descriptor of this process refers to the same open file.

        Not the same path or inode: the same offset and status flags (open file description).

        Args:
            other: a Descriptor, an object with ``fileno()``, or a number.

        Raises:
            OSError: EBADF, ``other`` is not open.
            UnsupportedError: the kernel has neither F_DUPFD_QUERY (6.10) nor kcmp(2).

        Kernel: fcntl(2), F_DUPFD_QUERY (6.10), else kcmp(2) with KCMP_FILE (3.5).
        """
        cdef int number = self._held()
        cdef int second = borrowed(other, "other")
        cdef int result = fdp_fcntl(number, F_DUPFD_QUERY, second)
        if result == -errno_EINVAL:
            result = fdp_kcmp(getpid(), getpid(), KCMP_FILE, number, second)
            if result >= 0:
                return result == 0
            if result != -errno_EBADF:
                raise UnsupportedError("comparing open files (F_DUPFD_QUERY, or kcmp)", "6.10", -result)
        if result < 0:
            failed(-result)
        return result == 1

    def into_file(self, mode="r", *, buffering=-1, encoding=None, errors=None, newline=None):
        """Hand the descriptor over to a Python file object.

        Args:
            mode, buffering, encoding, errors, newline: as for the builtin ``open``; the mode must fit
                the way the descriptor was opened.

        Returns:
            The file object, which owns the descriptor now. If this call fails, this object still does.

        Raises:
            OSError, ValueError, LookupError: what the builtin ``open`` says of these arguments.
            ClosedError: this owner owns nothing any more.
        """
        cdef int number = self._held()
        # Made without owning the number, so that whatever fails leaves it here.
        trial = io.open(number, mode, buffering, encoding, errors, newline, False)
        buffered = trial.buffer if isinstance(trial, io.TextIOWrapper) else trial
        raw = buffered if isinstance(buffered, io.FileIO) else buffered.raw
        # The finished file object is told last that it owns the number: after that nothing can fail.
        io.FileIO.__init__(raw, number, raw.mode, True)
        # OWNERSHIP: the file object owns the number from here on.
        self._number = -1
        return trial

    def into_socket(self):
        """Hand the descriptor over to a ``socket.socket``, whose family and type are detected.

        Returns:
            The socket, which owns the descriptor now. If this call fails, this object still does.

        Raises:
            OSError: ENOTSOCK, the file is no socket.
            ClosedError: this owner owns nothing any more.
        """
        cdef int number = self._held()
        result = _socket.socket.__new__(_socket.socket)
        try:
            result.__init__(fileno=number)
        except BaseException:
            # The socket may have taken the number before an interrupt ended its constructor.
            if result.fileno() == number:
                _socket.SocketType.detach(result)
            raise
        # OWNERSHIP: the socket owns the number from here on.
        self._number = -1
        return result


@cython.final
cdef class Pair:
    """Two descriptors that were created together; unpack it, index it, or use it in ``with``.

    Leaving the ``with`` block closes both.
    """

    def __cinit__(self):
        self.first = Descriptor.__new__(Descriptor)
        self.second = Descriptor.__new__(Descriptor)

    def __init__(self):
        raise TypeError("a Pair comes from pipe() or socketpair()")

    def __reduce__(self):
        raise TypeError("a Pair cannot be pickled or copied: take its two Descriptors")

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return (self.first, self.second)[index]

    def __iter__(self):
        return iter((self.first, self.second))

    def close(self):
        """Close both; the second even if closing the first fails.

        Raises:
            OSError: as ``Descriptor.close`` says.
        """
        try:
            self.first.close()
        finally:
            self.second.close()

    def __enter__(self):
        self.first._held()
        self.second._held()
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __repr__(self):
        return f"<fdproof.Pair {self.first!r}, {self.second!r}>"


cdef int close_failed(int number, int result) except -1:
    if result == -errno_EINTR:
        PyErr_CheckSignals()
        return 0
    if result == -errno_EBADF:
        raise OSError(
            errno.EBADF,
            f"descriptor {number} was not open any more when its owner closed it: somebody else "
            "closed it, and may have closed a stranger's descriptor elsewhere",
        )
    failed(-result)


cdef int close_all(tuple owners) except -1:
    """Close what each Descriptor still owns; when all are closed, raise the first error met."""
    cdef int numbers[CLOSED_AT_ONCE]
    cdef int held, at, result, trouble = 0, troubled = -1
    cdef Py_ssize_t index = 0, count = len(owners)
    cdef Descriptor owner
    while index < count:
        held = 0
        while index < count and held < CLOSED_AT_ONCE:
            owner = <Descriptor>owners[index]
            index += 1
            if owner._number >= 0:
                # OWNERSHIP: forgotten before it is closed, as in close().
                numbers[held] = owner._number
                owner._number = -1
                held += 1
        with nogil:
            for at in range(held):
                result = fdp_close(numbers[at])
                if result < 0 and trouble == 0:
                    trouble, troubled = result, numbers[at]
    if trouble < 0:
        close_failed(troubled, trouble)
    return 0


cdef bint wants_inheritable(object value) except -1:
    if value is False:
        return False
    return not descriptor_flags(value).value


cdef int adopt_number(Descriptor owner, int number, bint inheritable) except -1:
    cdef int flags = fdp_fcntl(number, F_GETFD, 0)
    cdef int wanted = 0 if inheritable else FD_CLOEXEC
    if flags < 0:
        raise OSError(-flags, f"descriptor {number} is not open: there is nothing to own")
    owner._number = number
    if (flags & FD_CLOEXEC) != wanted:
        fdp_fcntl(number, F_SETFD, wanted)
    return 0


cdef int _detached(object source) except -1:
    # File objects have a detach() that returns another file object, never a number.
    # So have the wrappers of tempfile, which are no IOBase.
    if isinstance(source, io.IOBase) or hasattr(source, "readline") or not hasattr(source, "detach"):
        raise TypeError(
            f"source: {type(source).__name__} cannot give its number up (no detach() that returns one): "
            "own a duplicate instead, fdproof.receive(source), and close the source"
        )
    if type(source) is _socket.socket:
        # OWNERSHIP: in compiled code. Python's own detach() is bytecode, where an interrupt would lose the number.
        source._closed = True
        number = raw_detach(source)
    else:
        number = source.detach()
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"source: {type(source).__name__}.detach() returned {number!r}, not a number")
    if number < 0:
        raise ClosedError(f"source: the {type(source).__name__} owns nothing any more")
    return number


cdef long long bounded(object value, str name, long long low, long long high) except? -1:
    cdef int overflow = 0
    cdef long long number
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: takes an int, not {value!r}")
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow or number < low or number > high:
        raise ValueError(f"{name}: {value} is not between {low} and {high}")
    return number


cdef int borrowed(object value, str name) except -1:
    if isinstance(value, Descriptor):
        return (<Descriptor>value)._held()
    if not isinstance(value, int):
        try:
            value = value.fileno()
        except AttributeError:
            raise TypeError(f"{name}: takes a descriptor (an int or an object with fileno()), not {value!r}") from None
    return bounded(value, name, 0, 0x7fffffff)


def duplicate_of(source, at_least, bint inheritable):
    """Make an owned second descriptor of anything with a number; the source keeps its own.

    See ``Descriptor.duplicate``, and ``receive`` for the public way to a borrowed number.
    """
    cdef int number = borrowed(source, "file")
    cdef int lowest = bounded(at_least, "at_least", 0, 0x7fffffff)
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result = fdp_fcntl(number, F_DUPFD if inheritable else F_DUPFD_CLOEXEC, lowest)
    if result == -errno_EINVAL:
        raise OSError(errno.EINVAL, f"at_least: {lowest} is beyond the limit of open files (RLIMIT_NOFILE)")
    if result < 0:
        failed(-result)
    owner._number = result
    return owner
