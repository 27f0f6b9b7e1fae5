"""The calls that create a descriptor, each together with its owner.

Every function allocates the owner first, makes the system call, and stores the number in C: no
bytecode boundary, so no signal handler, lies between the two.
"""

from cpython.exc cimport PyErr_CheckSignals

from fdproof._descriptor cimport Descriptor, Pair, borrowed, bounded, wants_inheritable
from fdproof._syscalls cimport *

import os
import signal as _signal
import socket as _socket
import time as _time

from fdproof._errors import UnsupportedError
from fdproof._flags import FileFlags, file_flag_bits, resolve_flag_bits

__all__ = [
    "epoll",
    "eventfd",
    "inotify",
    "memfd",
    "open",
    "pidfd",
    "pipe",
    "signalfd",
    "socketpair",
    "timerfd",
]

cdef extern from "errno.h":
    int errno_EINTR "EINTR"
    int errno_ENOSYS "ENOSYS"

cdef object READ_ONLY = FileFlags.RDONLY
# openat2 refuses a mode where no file can be created.
cdef int CREATING_FLAGS = os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY


cdef int create_failed(int result, str feature, str kernel, object path=None) except -1:
    if result == -errno_ENOSYS:
        raise UnsupportedError(feature, kernel)
    failed(-result, path)


def open(path, flags=FileFlags.RDONLY, *, mode=0o666, directory=None, resolve=0, inheritable=False):
    """Open a file.

    Args:
        path: str, bytes or path-like, relative to ``directory``.
        flags: FileFlags, or the same as an ``os.O_*`` integer. Close-on-exec is not among them.
        mode: permission bits of a file that this call creates, before the umask.
        directory: a descriptor of the directory that a relative path starts from; None is the
            current directory.
        resolve: ResolveFlags, how the path may be walked.
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: as open(2) says, with the path; EMFILE or ENFILE when the table or the system is full.
        FlagError: a flag that does not belong here.
        UnsupportedError: ``resolve`` is given and the kernel has no openat2.

    Kernel: openat2(2) (5.6); openat(2) before, when ``resolve`` is empty.
    """
    # The defaults are known to be good: checking them costs more than the call.
    cdef int bits = 0 if flags is READ_ONLY else file_flag_bits(flags, "flags")
    cdef int descriptor_bits = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef int start = AT_FDCWD if directory is None else borrowed(directory, "directory")
    cdef unsigned int permissions = bounded(mode, "mode", 0, 0o7777)
    cdef bytes encoded = os.fsencode(path)
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef open_how how
    cdef const char *text = encoded
    cdef int result
    if b"\0" in encoded:
        raise ValueError(f"path: {path!r} contains a NUL byte")
    how.flags = bits | descriptor_bits
    how.resolve = 0 if type(resolve) is int and resolve == 0 else resolve_flag_bits(resolve, "resolve")
    how.mode = permissions if bits & CREATING_FLAGS else 0
    while True:
        with nogil:
            result = fdp_openat2(start, text, &how)
            if result == -errno_ENOSYS and how.resolve == 0:
                result = fdp_openat(start, text, <int>how.flags, <unsigned int>how.mode)
        if result >= 0:
            owner._number = result
            return owner
        if result != -errno_EINTR:
            create_failed(result, "openat2", "5.6", path)
        PyErr_CheckSignals()


def pipe(*, nonblocking=False, packet=False, inheritable=False):
    """Create a pipe.

    Args:
        nonblocking: both ends' files get NONBLOCK.
        packet: each write is read as one packet (O_DIRECT).
        inheritable: leave close-on-exec off.

    Returns:
        A Pair that owns the reading end, then the writing end.

    Raises:
        OSError: EMFILE, ENFILE, the table or the system is full.

    Kernel: pipe2(2) (2.6.27).
    """
    cdef int numbers[2]
    cdef int flags = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef Pair pair = Pair.__new__(Pair)
    cdef int result
    if nonblocking:
        flags |= O_NONBLOCK
    if packet:
        flags |= O_DIRECT
    result = fdp_pipe2(numbers, flags)
    if result < 0:
        create_failed(result, "pipe2", "2.6.27")
    pair.first._number = numbers[0]
    pair.second._number = numbers[1]
    return pair


def socketpair(*, type=_socket.SOCK_STREAM, nonblocking=False, inheritable=False):
    """Create two Unix sockets that are connected to each other.

    Args:
        type: SOCK_STREAM, SOCK_DGRAM or SOCK_SEQPACKET.
        nonblocking: both sockets get NONBLOCK.
        inheritable: leave close-on-exec off.

    Returns:
        A Pair that owns both; ``into_socket()`` turns each into a Python socket.

    Raises:
        OSError: EMFILE, ENFILE, the table or the system is full.

    Kernel: socketpair(2).
    """
    cdef int numbers[2]
    cdef int kind = bounded(type, "type", 1, 0x7ff)
    cdef int flags = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef Pair pair = Pair.__new__(Pair)
    cdef int result
    if nonblocking:
        flags |= O_NONBLOCK
    result = fdp_socketpair(AF_UNIX, kind | flags, 0, numbers)
    if result < 0:
        failed(-result)
    pair.first._number = numbers[0]
    pair.second._number = numbers[1]
    return pair


def memfd(name, *, allow_sealing=False, inheritable=False):
    """Create a file that lives in memory.

    Args:
        name: shown in /proc, at most 249 bytes.
        allow_sealing: seals may be added later (F_ADD_SEALS).
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner; the file is open for reading and writing.

    Raises:
        OSError: EMFILE, ENFILE, ENOMEM; EINVAL, the name is too long.
        UnsupportedError: before Linux 3.17.

    Kernel: memfd_create(2) (3.17).
    """
    cdef unsigned int flags = 0 if wants_inheritable(inheritable) else MFD_CLOEXEC
    cdef bytes encoded = os.fsencode(name)
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result
    if b"\0" in encoded:
        raise ValueError(f"name: {name!r} contains a NUL byte")
    if allow_sealing:
        flags |= MFD_ALLOW_SEALING
    result = fdp_memfd_create(encoded, flags)
    if result < 0:
        create_failed(result, "memfd_create", "3.17")
    owner._number = result
    return owner


def eventfd(initial=0, *, semaphore=False, nonblocking=False, inheritable=False):
    """Create an event counter.

    Args:
        initial: the counter's first value, 0 to 4294967295.
        semaphore: each read takes one instead of all.
        nonblocking: the file gets NONBLOCK.
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: EMFILE, ENFILE, ENODEV, ENOMEM.

    Kernel: eventfd2(2) (2.6.27).
    """
    cdef int flags = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef unsigned int value = bounded(initial, "initial", 0, 0xffffffff)
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result
    if semaphore:
        flags |= EFD_SEMAPHORE
    if nonblocking:
        flags |= O_NONBLOCK
    result = fdp_eventfd2(value, flags)
    if result < 0:
        create_failed(result, "eventfd2", "2.6.27")
    owner._number = result
    return owner


def timerfd(clock=_time.CLOCK_MONOTONIC, *, after=0.0, every=0.0, nonblocking=False, inheritable=False):
    """Create a timer that becomes readable when it expires.

    Args:
        clock: ``time.CLOCK_MONOTONIC``, ``CLOCK_REALTIME`` or ``CLOCK_BOOTTIME``.
        after: seconds until it first expires; 0 leaves it off.
        every: seconds between later expirations; 0 for once. Needs ``after``.
        nonblocking: the file gets NONBLOCK.
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: EMFILE, ENFILE, ENODEV, ENOMEM; EINVAL, the clock cannot drive a timer.

    Kernel: timerfd_create(2) (2.6.25).
    """
    cdef int flags = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef int which = bounded(clock, "clock", 0, 64)
    cdef long long first = nanoseconds(after, "after")
    cdef long long period = nanoseconds(every, "every")
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result
    if period and not first:
        raise ValueError(f"every: {every} has no effect without after, the time of the first expiration")
    if nonblocking:
        flags |= O_NONBLOCK
    result = fdp_timerfd_create(which, flags)
    if result < 0:
        create_failed(result, "timerfd_create", "2.6.25")
    if first:
        period = fdp_timerfd_settime(result, first, period)
        if period < 0:
            fdp_close(result)
            failed(<int>-period)
    owner._number = result
    return owner


cdef long long nanoseconds(object seconds, str name) except -1:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"{name}: takes seconds as a number, not {seconds!r}")
    # The first comparison is false for a NaN as well.
    if not seconds >= 0 or seconds > 9e9:
        raise ValueError(f"{name}: {seconds} is not a number of seconds between 0 and 9e9")
    # Zero means off, which a very short time must not turn into.
    return max(round(seconds * 1_000_000_000), 1 if seconds else 0)


def signalfd(signals, *, nonblocking=False, inheritable=False):
    """Create a descriptor from which signals are read.

    The signals must be blocked as well (``signal.pthread_sigmask``), or they are delivered as ever.

    Args:
        signals: the signal numbers, at least one.
        nonblocking: the file gets NONBLOCK.
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: EMFILE, ENFILE, ENODEV, ENOMEM.

    Kernel: signalfd4(2) (2.6.27).
    """
    cdef int flags = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef unsigned long long mask = 0
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result
    for number in signals:
        mask |= 1ULL << (bounded(number, "signals", 1, _signal.NSIG - 1) - 1)
    if mask == 0:
        raise ValueError("signals: names no signal, so nothing could ever be read")
    if nonblocking:
        flags |= O_NONBLOCK
    result = fdp_signalfd4(mask, flags)
    if result < 0:
        create_failed(result, "signalfd4", "2.6.27")
    owner._number = result
    return owner


def epoll(*, inheritable=False):
    """Create an epoll instance; ``select.epoll.fromfd(epoll().detach())`` drives it from Python.

    Args:
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: EMFILE, ENFILE, ENOMEM.

    Kernel: epoll_create1(2) (2.6.27).
    """
    cdef int flags = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result = fdp_epoll_create1(flags)
    if result < 0:
        create_failed(result, "epoll_create1", "2.6.27")
    owner._number = result
    return owner


def inotify(*, nonblocking=False, inheritable=False):
    """Create an inotify instance.

    Args:
        nonblocking: the file gets NONBLOCK.
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: EMFILE, the table is full or the user has too many instances; ENFILE, ENOMEM.

    Kernel: inotify_init1(2) (2.6.27).
    """
    cdef int flags = 0 if wants_inheritable(inheritable) else O_CLOEXEC
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result
    if nonblocking:
        flags |= O_NONBLOCK
    result = fdp_inotify_init1(flags)
    if result < 0:
        create_failed(result, "inotify_init1", "2.6.27")
    owner._number = result
    return owner


def pidfd(pid, *, thread=False, nonblocking=False, inheritable=False):
    """Open a descriptor of a process.

    The pid of anything but an unreaped child of this process may already mean another process.

    Args:
        pid: a process's number, or a thread's with ``thread``.
        thread: refer to one thread (6.9).
        nonblocking: waitid on it does not block (5.10).
        inheritable: leave close-on-exec off.

    Returns:
        The descriptor's owner.

    Raises:
        OSError: ESRCH, no such process; EMFILE, ENFILE; ENOENT or (before 6.16) EINVAL, the
            number is that of a thread and ``thread`` is not given.
        UnsupportedError: before Linux 5.3.

    Kernel: pidfd_open(2) (5.3).
    """
    cdef bint keep = wants_inheritable(inheritable)
    cdef int which = bounded(pid, "pid", 1, 0x7fffffff)
    cdef unsigned int flags = 0
    cdef Descriptor owner = Descriptor.__new__(Descriptor)
    cdef int result
    if thread:
        flags |= PIDFD_THREAD
    if nonblocking:
        flags |= O_NONBLOCK
    result = fdp_pidfd_open(which, flags)
    if result < 0:
        create_failed(result, "pidfd_open", "5.3")
    if keep:
        # KERNEL: pidfd_open always sets close-on-exec and knows no flag against it.
        fdp_fcntl(result, F_SETFD, 0)
    owner._number = result
    return owner
