"""The listener of a filter, and the notifications that it delivers."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals

from fdproof._descriptor cimport Descriptor
from fdproof._syscalls cimport failed
from fdproof.notifier._notify cimport *

import os

from fdproof._creating import eventfd
from fdproof._errors import StaleError, StateError
from fdproof.notifier._libseccomp import name_of

__all__ = ["Listener", "Notification"]


@cython.final
cdef class Notification:
    """A system call of a target that waits for an answer; exactly one of three is given.

    ``fail``, ``reply`` and ``resume`` answer it. The arguments are what the registers held: pointers
    into the target's memory may change at any time, and anything learnt about the process by its
    number holds only while ``valid`` is true afterwards.
    """

    cdef readonly unsigned long long id
    cdef readonly int pid
    cdef readonly int call
    cdef readonly unsigned long long instruction_pointer
    cdef readonly tuple arguments
    cdef Descriptor _listener
    cdef bint _answered

    def __init__(self):
        raise TypeError("a Notification comes from Listener.receive()")

    @property
    def name(self):
        """The system call's kernel name."""
        return name_of(self.call)

    @property
    def answered(self):
        """True once an answer was given."""
        return self._answered

    @property
    def valid(self):
        """Whether the call still waits: neither answered nor gone (SECCOMP_IOCTL_NOTIF_ID_VALID)."""
        return not self._answered and fdp_id_valid(self._listener._held(), self.id) == 0

    def resume(self):
        """Let the kernel run the call as if nothing had happened.

        Not a security decision: the target may change the memory behind the arguments after
        they were looked at. To enforce something, do it here and reply.

        Raises:
            StaleError: the call is gone.
            StateError: it was answered before.
        """
        self._answer(fdp_resume(self._unanswered(), self.id))

    def fail(self, int error):
        """Let the call fail without running it.

        Args:
            error: the errno, 1 to 4095.

        Raises:
            StaleError: the call is gone.
            StateError: it was answered before.
        """
        if not 1 <= error <= 4095:
            raise ValueError(f"error: {error} is not an errno (1 to 4095)")
        self._answer(fdp_answer(self._unanswered(), self.id, 0, error, 0))

    def reply(self, long long value):
        """Let the call return a value without running it.

        Args:
            value: what the target sees as the result.

        Raises:
            StaleError: the call is gone.
            StateError: it was answered before.
        """
        self._answer(fdp_answer(self._unanswered(), self.id, value, 0, 0))

    cdef int _unanswered(self) except -1:
        if self._answered:
            raise StateError(f"this call ({self.name}) was answered before: a call gets one answer")
        return self._listener._held()

    cdef int _answer(self, int result) except -1:
        if result == -ENOENT:
            self._answered = True
            raise StaleError(f"the call ({self.name} of task {self.pid}) is gone: a signal or the end of its task")
        if result == -EINPROGRESS:
            self._answered = True
            raise StateError(f"this call ({self.name}) was answered before, through another listener object")
        if result < 0:
            failed(-result)
        self._answered = True
        return 0

    def __repr__(self):
        state = "answered" if self._answered else "waiting"
        return f"<fdproof.notifier.Notification {self.name} of task {self.pid}, {state}>"


@cython.final
cdef class Listener:
    """The supervisor's end of a filter.

    Owns the listener's descriptor: closing it, or dying, lets every outstanding and future call of
    the filter fail with ENOSYS, so no target is stranded.

    Args:
        descriptor: the listener's owner, which this object takes over.
    """

    def __init__(self, Descriptor descriptor not None):
        descriptor._held()
        self._stop = eventfd(nonblocking=True)
        self.descriptor = descriptor
        # Older than 6.6: the wake-up goes through the scheduler, which only costs time.
        fdp_sync_wake_up(descriptor._number)

    def fileno(self):
        """Return the listener's number: readable when a call waits."""
        return self.descriptor.fileno()

    def receive(self, timeout=None):
        """Wait for the next call; one thread at a time, or one may miss ``stop``.

        Args:
            timeout: seconds to wait; None for as long as there is a target.

        Returns:
            The notification; None after ``stop()``, and when the last target is gone.

        Raises:
            TimeoutError: nothing came in time.
            ClosedError: the listener is closed.
        """
        cdef long long deadline = -1
        cdef seccomp_notif raw
        cdef Notification notification = Notification.__new__(Notification)
        cdef int result
        if timeout is not None:
            deadline = fdp_now_ns() + <long long>(timeout * 1e9)
        while self._wait(deadline):
            with nogil:
                result = fdp_receive(self.descriptor._number, &raw)
            if result == 0:
                notification.id = raw.id
                notification.pid = raw.pid
                notification.call = raw.data.nr
                notification.instruction_pointer = raw.data.instruction_pointer
                notification.arguments = (
                    raw.data.args[0], raw.data.args[1], raw.data.args[2],
                    raw.data.args[3], raw.data.args[4], raw.data.args[5],
                )
                notification._listener = self.descriptor
                return notification
            # ENOENT: the caller was gone before its call could be received.
            if result != -ENOENT and result != -EINTR:
                failed(-result)
        return None

    cdef int _wait(self, long long deadline) except -1:
        """Wait for a call: 1 if one waits, 0 at the end."""
        cdef pollfd waiting[2]
        cdef int result
        cdef long long left = -1
        while True:
            waiting[0].fd = self.descriptor._held()
            waiting[1].fd = self._stop._held()
            waiting[0].events = waiting[1].events = POLLIN
            if deadline >= 0:
                left = (deadline - fdp_now_ns() + 999999) // 1000000
                if left < 0:
                    left = 0
            with nogil:
                result = poll(waiting, 2, <int>left)
            if self._stopped or (result > 0 and waiting[1].revents):
                return 0
            if result > 0 and waiting[0].revents & POLLIN:
                return 1
            if result > 0 and waiting[0].revents & POLLHUP:
                return 0
            PyErr_CheckSignals()
            if result == 0 and left == 0:
                raise TimeoutError("no supervised call came in time")

    def __iter__(self):
        return self

    def __next__(self):
        notification = self.receive()
        if notification is None:
            raise StopIteration
        return notification

    def stop(self):
        """Let ``receive`` return None, now and from now on; safe from any thread or signal handler."""
        self._stopped = True
        if not self._stop.closed:
            os.eventfd_write(self._stop.fileno(), 1)

    def close(self):
        """Close the listener; the calls that still wait, and later ones, fail with ENOSYS."""
        self.descriptor.close()
        self._stop.close()

    def __enter__(self):
        self.descriptor._held()
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __repr__(self):
        return f"<fdproof.notifier.Listener {self.descriptor!r}>"
