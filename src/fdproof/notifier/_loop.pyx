"""The supervisor's inner loop: count the calls of every task, resume them, stop at one.

Runs without the GIL and comes back to Python only for what it cannot decide: a task or a program
that it does not know yet, a watched call, the call that is to fail, and the end.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from fdproof._descriptor cimport Descriptor
from fdproof._syscalls cimport failed, fdp_close, fdp_timerfd_create, fdp_timerfd_settime
from fdproof.notifier._listener cimport Listener
from fdproof.notifier._notify cimport *

import enum

from fdproof._errors import StateError

__all__ = ["CALLS", "Loop", "Stop"]

cdef extern from "<sys/timerfd.h>" nogil:
    enum:
        CLOCK_MONOTONIC
        TFD_CLOEXEC

cdef enum:
    CALL_NUMBERS = 512
    MOST_EVENTS = 1 << 20

CALLS = CALL_NUMBERS


class Stop(enum.Enum):
    """Why the loop came back."""

    ENDED = 0
    TIMEOUT = 1
    CONTROL = 2
    NEW_TASK = 3
    NEW_PROGRAM = 4
    WATCHED = 5
    FAULT = 6
    POINT = 7


cdef enum:
    ENDED = 0
    TIMEOUT = 1
    CONTROL = 2
    NEW_TASK = 3
    NEW_PROGRAM = 4
    WATCHED = 5
    FAULT = 6
    POINT = 7
    AGAIN = 8
    FAILED = 9

_STOPS = tuple(Stop)


cdef struct task:
    int tid
    int index
    bint starting
    unsigned long long loader_low
    unsigned long long loader_high
    unsigned int counts[CALL_NUMBERS]


cdef struct event:
    int index
    int call
    unsigned int occurrence
    unsigned long long arguments[6]


@cython.final
cdef class Loop:
    """Answer the calls of one process tree.

    Args:
        listener: whose calls.
        process: the pidfd of the root; its end ends the loop.
        control: a descriptor whose hang-up ends the loop, or None; what can be read there waits.
        watched: numbers of the calls that always stop the loop.
    """

    cdef Listener _listener
    cdef Descriptor _process
    cdef object _control
    # OWNERSHIP: this object's. A timer that is set once, because a timeout given to poll is set up and
    # taken down again for every call, at a twentieth of what a call costs.
    cdef int _timer
    cdef long long _until
    cdef unsigned char _watched[CALL_NUMBERS]
    cdef task *_tasks
    cdef int _task_count
    cdef int _last
    cdef event *_events
    cdef long _event_count
    cdef long _event_room
    cdef seccomp_notif _raw
    cdef bint _pending
    cdef unsigned int _occurrence
    cdef int _error
    cdef int _fault_index
    cdef int _fault_call
    cdef unsigned int _fault_occurrence
    # Counting is on between the begin and the end of an operation.
    cdef public bint counting
    cdef public bint stepping

    def __cinit__(self, Listener listener not None, Descriptor process not None, control, watched):
        self._timer = -1
        self._until = -0x7fffffffffffffff
        self._tasks = NULL
        self._events = NULL
        self._task_count = self._last = 0
        self._event_count = self._event_room = 0
        self._pending = False
        self._fault_index = self._fault_call = -1
        self._listener = listener
        self._process = process
        self._control = control
        memset(self._watched, 0, sizeof(self._watched))
        for number in watched:
            if not 0 <= number < CALL_NUMBERS:
                raise ValueError(f"watched: {number} is not a system call number below {CALL_NUMBERS}")
            self._watched[number] = 1
        self._timer = fdp_timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)
        if self._timer < 0:
            failed(-self._timer)

    def __dealloc__(self):
        if self._timer >= 0:
            fdp_close(self._timer)
        free(self._tasks)
        free(self._events)

    def add_task(self, int tid, int index):
        """Make a task known, under a logical index that does not depend on its number."""
        cdef task *tasks = <task *>realloc(self._tasks, (self._task_count + 1) * sizeof(task))
        if tasks == NULL:
            raise MemoryError()
        self._tasks = tasks
        memset(&tasks[self._task_count], 0, sizeof(task))
        tasks[self._task_count].tid = tid
        tasks[self._task_count].index = index
        self._task_count += 1

    def starts_program_of(self, int tid):
        """Take the next calls of a task for a program's start, until they leave its loader."""
        cdef task *found = self._find(tid)
        if found != NULL:
            found.starting = True
            found.loader_low = found.loader_high = 0

    def set_loader(self, unsigned long long low, unsigned long long high):
        """Tell where the pending task's loader lies; an empty range for a program without one."""
        cdef task *found = self._find(self._raw.pid)
        if found != NULL:
            found.starting = low < high
            found.loader_low = low
            found.loader_high = high

    def set_fault(self, int index, int call, unsigned int occurrence):
        """Stop at the ``occurrence``-th ``call`` of the task with this logical index."""
        self._fault_index = index
        self._fault_call = call
        self._fault_occurrence = occurrence

    def reset_counts(self):
        """Count from the start again, for another run of the operation in the same process."""
        cdef int index
        for index in range(self._task_count):
            memset(self._tasks[index].counts, 0, sizeof(self._tasks[index].counts))

    @property
    def pending(self):
        """Of the call that waits for an answer: task, call number, arguments."""
        if not self._pending:
            raise StateError("no call waits for an answer")
        return (
            <int>self._raw.pid,
            self._raw.data.nr,
            (
                self._raw.data.args[0], self._raw.data.args[1], self._raw.data.args[2],
                self._raw.data.args[3], self._raw.data.args[4], self._raw.data.args[5],
            ),
        )

    @property
    def occurrence(self):
        """Of the call at which the loop stopped: how many of its kind its task has made."""
        return self._occurrence

    @property
    def calls(self):
        """How many calls were counted."""
        return self._event_count

    def events(self):
        """Return what was counted: tuples of task index, call number, occurrence, arguments."""
        cdef long index
        cdef event *one
        cdef list result = []
        for index in range(self._event_count):
            one = &self._events[index]
            result.append((
                one.index, one.call, one.occurrence,
                (
                    one.arguments[0], one.arguments[1], one.arguments[2],
                    one.arguments[3], one.arguments[4], one.arguments[5],
                ),
            ))
        return result

    def resume(self):
        """Let the pending call run; quiet when its task is gone."""
        self._answered(fdp_resume(self._listener.descriptor._held(), self._raw.id))

    def fail(self, int error):
        """Let the pending call fail; quiet when its task is gone."""
        self._answered(fdp_answer(self._listener.descriptor._held(), self._raw.id, 0, error, 0))

    def reply(self, long long value):
        """Let the pending call return a value; quiet when its task is gone."""
        self._answered(fdp_answer(self._listener.descriptor._held(), self._raw.id, value, 0, 0))

    cdef int _answered(self, int result) except -1:
        if not self._pending:
            raise StateError("no call waits for an answer")
        self._pending = False
        if result < 0 and result != -ENOENT:
            failed(-result)
        return 0

    def run(self, double deadline):
        """Answer calls until something needs Python.

        Args:
            deadline: when to give up, in seconds of ``time.monotonic()``.

        Returns:
            A Stop. NEW_TASK, NEW_PROGRAM: tell what it is (``add_task``, ``set_loader``) and run again.
            WATCHED, FAULT, POINT: answer the pending call and run again.
        """
        cdef long long until = <long long>(deadline * 1e9)
        cdef int control = -1 if self._control is None else self._control.fileno()
        cdef int listener = self._listener.descriptor._held()
        cdef int process = self._process._held()
        cdef int reason
        if until != self._until:
            # Nothing left still means a timer that expires: one at zero would be off.
            reason = fdp_timerfd_settime(self._timer, max(until - fdp_now_ns(), 1), 0)
            if reason < 0:
                failed(-reason)
            self._until = until
        while True:
            with nogil:
                reason = self._run(listener, process, control)
            if reason == FAILED:
                failed(self._error)
            if reason != AGAIN:
                return _STOPS[reason]
            PyErr_CheckSignals()

    cdef int _run(self, int listener, int process, int control) noexcept nogil:
        cdef pollfd waiting[4]
        cdef int result
        waiting[0].fd = listener
        waiting[1].fd = process
        waiting[2].fd = control
        waiting[3].fd = self._timer
        waiting[0].events = waiting[1].events = waiting[3].events = POLLIN
        # A hang-up is reported unasked.
        waiting[2].events = 0
        while True:
            if self._pending:
                result = self._decide(listener)
                if result != AGAIN:
                    return result
            if poll(waiting, 4, -1) < 0:
                return AGAIN
            if waiting[2].revents:
                return CONTROL
            if waiting[3].revents:
                return TIMEOUT
            if waiting[0].revents & POLLIN:
                result = fdp_receive(listener, &self._raw)
                if result == 0:
                    self._pending = True
                elif result == -EINTR:
                    return AGAIN
                elif result != -ENOENT:
                    self._error = -result
                    return FAILED
            elif waiting[1].revents or waiting[0].revents:
                # The root has ended, or nobody is left under the filter.
                return ENDED

    cdef int _decide(self, int listener) noexcept nogil:
        """Count and resume the pending call, or say why Python must look at it."""
        cdef task *found = self._find(self._raw.pid)
        cdef int call = self._raw.data.nr
        cdef unsigned long long where = self._raw.data.instruction_pointer
        if found == NULL:
            return NEW_TASK
        if call < 0 or call >= CALL_NUMBERS:
            call = 0
        elif self._watched[call]:
            return WATCHED
        if found.starting:
            if found.loader_high == 0:
                return NEW_PROGRAM
            if found.loader_low <= where < found.loader_high:
                return self._let_run(listener)
            found.starting = False
        if self.counting:
            found.counts[call] += 1
            self._occurrence = found.counts[call]
            self._error = self._note(found.index, call)
            if self._error:
                return FAILED
            if (
                call == self._fault_call
                and found.index == self._fault_index
                and self._occurrence == self._fault_occurrence
            ):
                return FAULT
            if self.stepping:
                return POINT
        return self._let_run(listener)

    cdef int _let_run(self, int listener) noexcept nogil:
        cdef int result = fdp_resume(listener, self._raw.id)
        self._pending = False
        if result < 0 and result != -ENOENT:
            self._error = -result
            return FAILED
        return AGAIN

    cdef task *_find(self, unsigned int tid) noexcept nogil:
        cdef int index
        if self._last < self._task_count and <unsigned int>self._tasks[self._last].tid == tid:
            return &self._tasks[self._last]
        # Backwards: a number that was used again belongs to the newer task.
        for index in range(self._task_count - 1, -1, -1):
            if <unsigned int>self._tasks[index].tid == tid:
                self._last = index
                return &self._tasks[index]
        return NULL

    cdef int _note(self, int index, int call) noexcept nogil:
        cdef event *events
        cdef int argument
        if self._event_count == self._event_room:
            if self._event_room >= MOST_EVENTS:
                return E2BIG
            events = <event *>realloc(self._events, (self._event_room * 2 + 256) * sizeof(event))
            if events == NULL:
                return ENOMEM
            self._events = events
            self._event_room = self._event_room * 2 + 256
        events = &self._events[self._event_count]
        events.index = index
        events.call = call
        events.occurrence = self._occurrence
        for argument in range(6):
            events.arguments[argument] = self._raw.data.args[argument]
        self._event_count += 1
        return 0
