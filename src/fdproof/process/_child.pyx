"""The sole owner of a process and its pidfd: what must be reaped is reaped once, by it.

Every look at the exit status happens in one piece under the GIL, so two threads never both reap.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from posix.unistd cimport getpid

from fdproof._descriptor cimport Descriptor
from fdproof._syscalls cimport failed
from fdproof.process._pidfd cimport *

from fdproof._errors import UnsupportedError

__all__ = ["Child"]

cdef extern from "Python.h":
    int PyErr_ResourceWarning(
        object source, Py_ssize_t stack_level, const char *format, ...
    ) except -1


@cython.final
cdef class Child:
    """A process and its pidfd, owned together.

    A child of this process that is dropped while it runs is killed and reaped, with a warning.

    Args:
        pid: its number, for people.
        pidfd: its descriptor; this object takes it over.
    """

    def __cinit__(self):
        self.pid = 0
        self._parent = 0
        self._known = False
        self.pidfd = Descriptor.__new__(Descriptor)

    def __init__(self, int pid, Descriptor pidfd not None):
        pidfd._held()
        self.pid = pid
        # OWNERSHIP: moved, not shared: the caller's Descriptor owns nothing any more.
        self.pidfd._number = pidfd._number
        pidfd._number = -1

    def __reduce__(self):
        raise TypeError("a process cannot be pickled or copied: pass its pidfd on instead")

    @property
    def owned(self):
        """True while this object must end and reap the process."""
        return self._parent != 0 and self._parent == getpid()

    @property
    def returncode(self):
        """The exit status as it was last seen, negative for a signal; None before."""
        return self._returncode if self._known else None

    @property
    def ended(self):
        """True when the process has ended, reaped or not."""
        cdef int result
        if self._known:
            return True
        result = fdp_poll(self.pidfd._held(), POLLIN, 0)
        if result < 0 and result != -EINTR:
            failed(-result)
        return result > 0

    cdef int _look(self) except -2:
        # 1 the status is known, 0 not yet, -1 it ended and nobody here can learn how.
        cdef int number, result, code = 0
        if self._known:
            return 1
        number = self.pidfd._held()
        result = fdp_reap(number, WNOHANG, &code)
        if result == -ECHILD:
            # Not a child of this process, or somebody else here reaped it.
            result = fdp_exit_known(number, &code)
            if result < 0:
                # KERNEL: PIDFD_GET_INFO is missing before 6.13, and before 6.15 says ESRCH once the
                # process was reaped: nobody here will ever know.
                return -1
            if result == 0 and self._parent != 0 and fdp_poll(number, POLLIN, 0) & POLLHUP:
                return -1
        elif result < 0:
            failed(-result)
        if result == 1:
            self._returncode = code
            self._known = True
        return result

    cdef int _status_is_lost(self) except -1:
        if self._parent != 0:
            raise ChildProcessError(
                ECHILD,
                f"process {self.pid} was reaped by somebody else in this program, and its exit "
                "status is lost with it: before Linux 6.15 the kernel does not keep it",
            )
        raise UnsupportedError(
            "the exit status of a process that is not a child of this one (PIDFD_INFO_EXIT)", "6.15"
        )

    def poll(self):
        """Return the exit status if it is known by now, else None."""
        cdef int result = self._look()
        if result < 0:
            self._status_is_lost()
        return self._returncode if result else None

    def wait(self, long long timeout_ns):
        """Wait for the end and return the exit status; negative time is for ever.

        Raises:
            TimeoutError: it has not ended.
        """
        cdef long long deadline = fdp_clock_ns() + timeout_ns
        cdef long long left = timeout_ns
        cdef short events = POLLIN
        cdef int number, result
        while True:
            result = self._look()
            if result > 0:
                return self._returncode
            if result < 0:
                self._status_is_lost()
            if timeout_ns >= 0:
                left = deadline - fdp_clock_ns()
                if left <= 0:
                    raise TimeoutError(ETIMEDOUT, f"process {self.pid} has not ended in time")
            number = self.pidfd._held()
            with nogil:
                result = fdp_poll(number, events, left)
            if result == -EINTR:
                PyErr_CheckSignals()
            elif result < 0:
                failed(-result)
            elif result & POLLIN and not result & POLLHUP:
                # It has ended. Somebody else's child keeps its status until it is reaped, which
                # hangs up.
                if self._look() == 0:
                    events = 0

    def signal(self, int number, unsigned int flags):
        """Send a signal; False if the process is gone, which is no error."""
        cdef int result
        if self._known:
            return False
        result = fdp_pidfd_send_signal(self.pidfd._held(), number, flags)
        if result == -ESRCH and (flags or self._parent == 0 or self._look() != 0):
            return False
        if result == -EINVAL and flags:
            raise UnsupportedError(
                "a signal to a thread or a process group by pidfd", "6.9", EINVAL
            )
        if result == -ENOSYS:
            raise UnsupportedError("pidfd_send_signal", "5.1")
        if result < 0:
            failed(-result)
        return True

    def detach(self):
        """Give the process up: it runs on, and the pidfd's owner is returned."""
        cdef Descriptor owner = Descriptor.__new__(Descriptor)
        owner._number = self.pidfd._held()
        # OWNERSHIP: the caller owns the number and the duty to reap from here on.
        self.pidfd._number = -1
        self._parent = 0
        return owner

    cdef int _end(self, int number) except -1:
        # OWNERSHIP: kills and reaps without a place where a signal handler could come between.
        cdef int result, code = 0
        if self._known or self._parent == 0 or self._parent != getpid():
            return 0
        result = fdp_reap(number, WNOHANG, &code)
        if result == 0:
            # A sandbox may refuse the one; the other is as safe, because the child is unreaped.
            if fdp_pidfd_send_signal(number, SIGKILL, 0) < 0 and fdp_kill_child(self.pid) < 0:
                # It changed to a user whom this process may not signal: the wait could be endless.
                return 0
            with nogil:
                result = fdp_reap(number, 0, &code)
                while result == -EINTR:
                    result = fdp_reap(number, 0, &code)
        if result == -ECHILD:
            result = fdp_exit_known(number, &code)
        if result == 1:
            self._returncode = code
            self._known = True
        self._parent = 0
        return 0

    def end(self):
        """Kill and reap an owned child, and keep the pidfd."""
        self._end(self.pidfd._held())

    def close(self):
        """Kill and reap an owned child, close the pidfd; twice is quiet."""
        if self.pidfd._number >= 0:
            self._end(self.pidfd._number)
            self.pidfd.close()

    def __del__(self):
        cdef int number = self.pidfd._number
        if number < 0:
            return
        try:
            # One that was waited for needs nothing but its number closed.
            if self._parent != 0 and self._parent == getpid() and self._look() == 0:
                PyErr_ResourceWarning(
                    self, 1,
                    b"process %d was still running when its owner was dropped: it is killed",
                    self.pid,
                )
        finally:
            if self._parent != 0 or self._known:
                self._end(number)
                self.pidfd.close()

    def __repr__(self):
        return f"<fdproof.process.Child {self.pid}>"
