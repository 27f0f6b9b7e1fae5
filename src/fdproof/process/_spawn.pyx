"""Make a child: in one compiled call it is born, has its pidfd, and has an owner."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport calloc, free
from posix.types cimport gid_t
from posix.unistd cimport getpid

from fdproof.process._child cimport Child
from fdproof.process._pidfd cimport fdp_reap_pid

__all__ = ["STEPS", "Start"]

cdef extern from "_spawn.h" nogil:
    enum:
        FDP_CLONE
        FDP_CGROUP
        FDP_SESSION
        FDP_PROCESS_GROUP
        FDP_DIRECTORY
        FDP_TABLE
        FDP_FILES
        FDP_CLOSE
        FDP_EXTRA_GROUPS
        FDP_GROUP
        FDP_USER
        FDP_DEATH_SIGNAL
        FDP_ANNOUNCE
        FDP_EXEC
        FDP_PID_ROOM
        MAP_ANONYMOUS
        MAP_SHARED
        PROT_READ
        PROT_WRITE

    struct fdp_move:
        int source
        int number
        int close_on_exec

    struct fdp_report:
        int error
        int step
        int which

    struct fdp_order:
        char **paths
        char **argv
        char **envp
        const char *directory
        fdp_move *moves
        int move_count
        int *kept
        int kept_count
        int highest
        int cgroup
        int new_session
        int process_group
        int umask
        int death_signal
        long user
        long group
        gid_t *extra_groups
        int extra_group_count
        int own_memory
        int channel
        char *own_pid
        fdp_report *report

    int fdp_start(fdp_order *order, int *pidfd)
    void *mmap(void *address, size_t length, int protection, int flags, int number, long offset)
    int munmap(void *address, size_t length)
    void *MAP_FAILED
    char **environ

STEPS = {
    FDP_CLONE: "clone",
    FDP_CGROUP: "cgroup",
    FDP_SESSION: "setsid",
    FDP_PROCESS_GROUP: "setpgid",
    FDP_DIRECTORY: "chdir",
    FDP_TABLE: "unshare",
    FDP_FILES: "files",
    FDP_CLOSE: "close_range",
    FDP_EXTRA_GROUPS: "setgroups",
    FDP_GROUP: "setresgid",
    FDP_USER: "setresuid",
    FDP_DEATH_SIGNAL: "prctl",
    FDP_ANNOUNCE: "announce",
    FDP_EXEC: "exec",
}


cdef void *_array(Py_ssize_t count, size_t size) except NULL:
    # One element is never used: calloc may return NULL for none.
    cdef void *array = calloc(count + 1, size)
    if array == NULL:
        raise MemoryError()
    return array


cdef char **_strings(list texts) except NULL:
    cdef Py_ssize_t index
    cdef char **array = <char **>_array(len(texts), sizeof(char *))
    for index in range(len(texts)):
        array[index] = PyBytes_AS_STRING(texts[index])
    return array


cdef char **_environment() except NULL:
    # The pointers are copied under the GIL, where Python code changes them; libc never frees what
    # they point to, except what putenv(3) was given.
    cdef Py_ssize_t count = 0
    cdef char **array
    while environ != NULL and environ[count] != NULL:
        count += 1
    array = <char **>_array(count, sizeof(char *))
    for index in range(count):
        array[index] = environ[index]
    return array


@cython.final
cdef class Start:
    """One child to be made: its order as C reads it, and what the child says of its failure.

    Args:
        order: the checked arguments; see ``fdproof.process._order``.
    """

    cdef object _order
    cdef fdp_order _c
    cdef fdp_report _own_report
    cdef fdp_report *_shared_report
    cdef bytearray _own_pid

    def __init__(self, order not None):
        cdef Py_ssize_t index
        # Keeps alive what the arrays point to.
        self._order = order
        self._c.paths = _strings(order.paths)
        self._c.argv = _strings(order.arguments)
        if order.pid_variable is None:
            self._c.envp = _environment() if order.environment is None else _strings(order.environment)
        else:
            # A text of this child's alone, which the child completes.
            self._own_pid = bytearray(order.pid_variable + b"=" + bytes(FDP_PID_ROOM))
            self._c.own_pid = PyByteArray_AS_STRING(self._own_pid) + len(order.pid_variable) + 1
            self._c.envp = _strings(order.environment + [b""])
            self._c.envp[len(order.environment)] = PyByteArray_AS_STRING(self._own_pid)
        self._c.directory = NULL if order.directory is None else PyBytes_AS_STRING(order.directory)
        self._c.moves = <fdp_move *>_array(len(order.moves), sizeof(fdp_move))
        self._c.move_count = <int>len(order.moves)
        for index, (source, number, close_on_exec) in enumerate(order.moves):
            self._c.moves[index].source = source
            self._c.moves[index].number = number
            self._c.moves[index].close_on_exec = close_on_exec
        self._c.kept = <int *>_array(len(order.kept), sizeof(int))
        self._c.kept_count = <int>len(order.kept)
        for index, number in enumerate(order.kept):
            self._c.kept[index] = number
        self._c.highest = order.highest
        self._c.cgroup = order.cgroup_number
        self._c.new_session = order.new_session
        self._c.process_group = order.process_group
        self._c.umask = order.umask
        self._c.death_signal = order.parent_death_signal
        self._c.user = order.user
        self._c.group = order.group
        self._c.extra_group_count = -1
        if order.extra_groups is not None:
            self._c.extra_groups = <gid_t *>_array(len(order.extra_groups), sizeof(gid_t))
            self._c.extra_group_count = <int>len(order.extra_groups)
            for index, number in enumerate(order.extra_groups):
                self._c.extra_groups[index] = number
        self._c.channel = order.channel
        # KERNEL: a change of ids marks the memory as not dumpable; this process must not be so. Nor
        # may a user with fewer rights, who can act on the child, reach the memory through it.
        changes_ids = order.user >= 0 or order.group >= 0 or order.extra_groups is not None
        self._c.own_memory = changes_ids
        self._c.report = &self._own_report
        if self._c.own_memory or self._c.channel >= 0:
            page = mmap(
                NULL, sizeof(fdp_report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0
            )
            if page == MAP_FAILED:
                raise MemoryError("mmap")
            self._c.report = self._shared_report = <fdp_report *>page

    def __dealloc__(self):
        free(self._c.paths)
        free(self._c.argv)
        free(self._c.envp)
        free(self._c.moves)
        free(self._c.kept)
        free(self._c.extra_groups)
        if self._shared_report != NULL:
            munmap(self._shared_report, sizeof(fdp_report))

    def make(self):
        """Make the child.

        Returns:
            Its owner; None if it failed before its program, or if there is none. What failed is in
            ``error``, ``step`` and ``which``; the child is reaped and the table as before.

        Kernel: clone(2) with CLONE_PIDFD (5.2); waitid(2) with P_PIDFD (5.4).
        """
        cdef Child child = Child.__new__(Child)
        cdef int pidfd = -1
        cdef int pid
        with nogil:
            pid = fdp_start(&self._c, &pidfd)
            if pid > 0 and self._c.channel < 0 and self._c.report.error:
                fdp_reap_pid(pid)
        # OWNERSHIP: no bytecode, so no signal handler, between the kernel's call and this.
        child.pidfd._number = pidfd
        if pid < 0:
            self._c.report.error = -pid
            return None
        if self._c.channel < 0 and self._c.report.error:
            child.pidfd.close()
            return None
        child.pid = pid
        child._parent = getpid()
        return child

    @property
    def error(self):
        """The errno of what failed in the child; 0 if nothing has."""
        return self._c.report.error

    @property
    def step(self):
        """The name of the step that failed, or that the child has reached."""
        return STEPS[self._c.report.step]

    @property
    def which(self):
        """The index of the move at which the step "files" failed."""
        return self._c.report.which
