"""A reserved slot of this process's table: a number held by a placeholder, and room for the build.

An empty slot cannot be reserved from user space, so an O_PATH file holds it (all input and output on
it fails with EBADF, as on a slot that the kernel reserved) and dup3 replaces it in one step.
"""

cimport cython

from fdproof._descriptor cimport Descriptor, bounded
from fdproof._syscalls cimport *

import errno

from fdproof._errors import StateError

__all__ = ["Slot", "install_all"]


cdef extern from "errno.h":
    int errno_EINVAL "EINVAL"


@cython.final
cdef class Slot:
    """A reserved number of this process, and a second slot that the build will use.

    Args:
        at: exactly this number, or None for any.
        at_least: the lowest number to take.
        close_on_exec: what the published descriptor gets.

    Raises:
        OSError: EMFILE, ENFILE, no room; EBUSY, ``at`` is open already; EINVAL, beyond RLIMIT_NOFILE.
    """

    # INVARIANT: each is a slot that this object alone must empty, or -1.
    cdef int _number
    cdef int _room
    cdef int _process
    cdef int _flags
    # Allocated with the reservation, so that publishing allocates nothing.
    cdef Descriptor _owner

    def __cinit__(self):
        # Before anything that can raise, the reading of arguments included: the finaliser runs on a
        # half-made object, too.
        self._number = -1
        self._room = -1

    def __init__(self, at, at_least, bint close_on_exec):
        cdef int first, second, wanted, exactly, lowest
        if self._number >= 0 or self._room >= 0:
            raise StateError(f"this slot already holds descriptor {self._number}")
        exactly = -1 if at is None else bounded(at, "at", 0, 0x7fffffff)
        lowest = bounded(at_least, "at_least", 0, 0x7fffffff)
        self._flags = O_CLOEXEC if close_on_exec else 0
        self._owner = Descriptor.__new__(Descriptor)
        first = fdp_openat(AT_FDCWD, b"/", O_PATH | O_CLOEXEC, 0)
        if first < 0:
            failed(-first)
        wanted = exactly if exactly >= 0 else lowest
        if wanted == first or (exactly < 0 and wanted < first):
            wanted = 0
        second = fdp_fcntl(first, F_DUPFD_CLOEXEC, wanted)
        if second < 0:
            fdp_close(first)
            if second == -errno_EINVAL:
                raise OSError(
                    errno.EINVAL,
                    f"{'at' if exactly >= 0 else 'at_least'}: {wanted} is beyond the limit of open files "
                    "(RLIMIT_NOFILE)",
                )
            failed(-second)
        if wanted == 0:
            self._number, self._room = first, second
        else:
            self._number, self._room = second, first
        self._process = getpid()
        if exactly >= 0 and self._number != exactly:
            self.cancel()
            raise OSError(errno.EBUSY, f"at: descriptor {exactly} is open; close it first, or reserve another number")

    def __reduce__(self):
        raise TypeError("a reservation belongs to one table and one process")

    @property
    def number(self):
        """The reserved number; None once it was published or given back."""
        return self._number if self._number >= 0 else None

    cdef int _check(self) except -1:
        cdef int flags
        if self._number < 0:
            raise StateError("this reservation holds no number any more: it was published or cancelled")
        if self._process != getpid():
            raise StateError(
                f"this reservation of descriptor {self._number} belongs to process {self._process}, not to this "
                "one: a fork does not inherit it; reserve again"
            )
        flags = fdp_fcntl(self._number, F_GETFL, 0)
        if flags < 0:
            raise StateError(f"descriptor {self._number} was taken from its reservation: somebody else closed it")
        if not flags & O_PATH:
            # OWNERSHIP: another file is at this number now, and it is not ours to close.
            number, self._number = self._number, -1
            raise StateError(
                f"descriptor {number} was taken from its reservation: somebody else put another file there"
            )
        return 0

    def make_room(self):
        """Empty the second slot, so that the build finds a free number."""
        if self._process != getpid():
            self._check()
        self._release_room()

    cdef void _release_room(self) noexcept:
        cdef int number = self._room
        self._room = -1
        if number >= 0:
            fdp_close(number)

    def install(self, Descriptor file not None):
        """Put the file into the slot.

        Args:
            file: the owner of the file, at any number; it owns nothing afterwards.

        Returns:
            The owner of the slot's number. On any error, ``file`` still belongs to the caller.

        Raises:
            StateError: not held any more, or held by another process.
        """
        return self._install(file)

    cdef Descriptor _install(self, Descriptor file):
        cdef Descriptor owner = self._owner
        cdef int source = file._held()
        cdef int result
        self._check()
        result = fdp_dup3(source, self._number, self._flags)
        if result < 0:
            failed(-result)
        # OWNERSHIP: point of no return. The slot's number passes to the published owner, and the number
        # under which the file was built is closed.
        # KERNEL: the file stays, but every close of it releases this process's record locks.
        owner._number = self._number
        self._number = -1
        file._number = -1
        fdp_close(source)
        self._release_room()
        return owner

    def cancel(self):
        """Give the numbers back; twice is quiet, and so is a slot that somebody else took."""
        cdef int number = self._number
        cdef int flags
        self._number = -1
        self._release_room()
        if number < 0:
            return
        flags = fdp_fcntl(number, F_GETFL, 0)
        # A question that failed is no answer: if the number is not open, closing it changes nothing.
        if flags < 0 or flags & O_PATH:
            fdp_close(number)

    def __del__(self):
        self.cancel()


def install_all(slots, files):
    """Install several files, each into its slot, without a bytecode boundary in between.

    Everything that can be checked is checked before the first one is installed.

    Args:
        slots: the slots, all held by this process.
        files: their files' owners, in the same order.

    Returns:
        The published owners, in the same order.

    Raises:
        StateError: a slot is not held any more; nothing was installed.
        ClosedError: a file is closed; nothing was installed.
    """
    cdef Slot slot
    cdef Descriptor file
    cdef list result = []
    for slot, file in zip(slots, files, strict=True):
        if slot is None or file is None:
            raise TypeError("slots, files: takes no None")
        slot._check()
        file._held()
    for slot, file in zip(slots, files, strict=True):
        result.append(slot._install(file))
    return result
