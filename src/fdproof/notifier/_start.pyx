"""Start a target under a filter, and own its pidfd and its listener.

The listener never needs the target's help: a forked child's is fetched from its table
(pidfd_getfd), a spawned child makes it in the table that it shares with its parent until it execs.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdlib cimport free, malloc

from fdproof._descriptor cimport Descriptor
from fdproof._syscalls cimport *
from fdproof.notifier._notify cimport *

import os

from fdproof._errors import Error, UnsupportedError

__all__ = ["Handover", "mark", "spawn_target"]


cdef sock_fprog as_program(bytes program) except *:
    cdef sock_fprog result
    result.len = len(program) // 8
    result.filter = <void *>PyBytes_AS_STRING(program)
    return result


def mark(unsigned int code):
    """Tell the supervisor something: a call that does nothing, and that it sees.

    Args:
        code: what to tell.

    Returns:
        What the supervisor replies, from 0; None outside a supervised target.
    """
    cdef int result = fdp_mark(code)
    return None if result < 0 else result


@cython.final
cdef class Handover:
    """A page shared with the next forked child, over which the listener is handed over."""

    cdef fdp_handover *_page

    def __cinit__(self):
        cdef void *page = mmap(NULL, sizeof(fdp_handover), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        if page == MAP_FAILED:
            raise MemoryError("mmap")
        self._page = <fdp_handover *>page
        self.reset()

    def __dealloc__(self):
        if self._page != NULL:
            munmap(self._page, sizeof(fdp_handover))

    def reset(self):
        """Make the page ready for another child."""
        self._page.listener = 0
        self._page.taken = 0

    def enter(self, bytes program not None):
        """In the child: load the filter and wait until the parent holds the listener.

        Raises:
            OSError: the kernel refuses the filter. EBUSY, the process is supervised already.
        """
        cdef sock_fprog filter = as_program(program)
        cdef int result
        with nogil:
            result = fdp_enter(&filter, self._page)
        if result < 0:
            failed(-result)

    def fetch(self, Descriptor child not None, double timeout=10.0):
        """In the parent: take the child's listener.

        Args:
            child: the child's pidfd.
            timeout: seconds to wait for the child.

        Returns:
            The listener's owner.

        Raises:
            OSError: the kernel refused the filter to the child; EMFILE, no room for the listener here.
            UnsupportedError: EPERM, a policy forbids taking a child's descriptor.
            Error: the child died, or said nothing in time.
        """
        cdef Descriptor owner = Descriptor.__new__(Descriptor)
        cdef long long deadline = fdp_now_ns() + <long long>(timeout * 1e9)
        cdef pollfd gone
        cdef int word = 0
        cdef int result
        while True:
            with nogil:
                word = fdp_await_listener(self._page, 20)
            if word != 0:
                break
            gone.fd = child._held()
            gone.events = POLLIN
            if poll(&gone, 1, 0) > 0:
                raise Error("the target died before its filter was loaded")
            if fdp_now_ns() > deadline:
                raise Error(f"the target loaded no filter within {timeout} seconds")
        if word < 0:
            if word == -EINVAL:
                raise UnsupportedError("the seccomp notifier (SECCOMP_FILTER_FLAG_NEW_LISTENER)", "5.0", EINVAL)
            failed(-word)
        result = fdp_pidfd_getfd(child._held(), word - 1, 0)
        if result < 0 and result not in (-EPERM_NUMBER, -ENOSYS_NUMBER):
            failed(-result)
        if result < 0:
            raise UnsupportedError(
                "pidfd_getfd", "5.6", -result,
                remedy=f"{os.strerror(-result)}: a process must be allowed to trace its own children "
                "(kernel.yama.ptrace_scope below 2, or CAP_SYS_PTRACE)" if result == -EPERM_NUMBER else None,
            )
        owner._number = result
        fdp_release_child(self._page)
        return owner


cdef extern from "errno.h":
    int EPERM_NUMBER "EPERM"
    int ENOSYS_NUMBER "ENOSYS"


cdef char **as_strings(list strings) except NULL:
    cdef Py_ssize_t index
    cdef char **array = <char **>malloc((len(strings) + 1) * sizeof(char *))
    if array == NULL:
        raise MemoryError()
    for index in range(len(strings)):
        array[index] = PyBytes_AS_STRING(strings[index])
    array[len(strings)] = NULL
    return array


def spawn_target(bytes program not None, bytes path not None, list arguments not None,
                 list environment not None, bytes directory, bint kill_with_parent):
    """Start a command under a filter.

    Args:
        program: the compiled filter.
        path: the absolute path of the program to run.
        arguments: the argument strings, as bytes, the program's name first.
        environment: ``NAME=value`` strings, as bytes.
        directory: where it starts; None for here.
        kill_with_parent: SIGKILL when the calling thread dies.

    Returns:
        The pid, the pidfd's owner and the listener's owner.

    Raises:
        OSError: the command cannot be run; the child is reaped, nothing is left.

    Kernel: clone(2) with CLONE_PIDFD (5.2), CLONE_VM and CLONE_VFORK: the cost does not grow with
        this process's memory.
    """
    cdef Descriptor process = Descriptor.__new__(Descriptor)
    cdef Descriptor listener = Descriptor.__new__(Descriptor)
    cdef sock_fprog filter = as_program(program)
    cdef fdp_spawn spawn
    cdef int pid
    if not path.startswith(b"/") or any(b"\0" in text for text in (path, *arguments, *environment)):
        raise ValueError(f"path, arguments: not an absolute path, or a NUL byte inside: {path!r} {arguments!r}")
    spawn.path = path
    spawn.directory = NULL
    if directory is not None:
        spawn.directory = directory
    spawn.program = &filter
    spawn.kill_with_parent = kill_with_parent
    spawn.argv = as_strings(arguments)
    spawn.envp = NULL
    try:
        spawn.envp = as_strings(environment)
        with nogil:
            pid = fdp_spawn_target(&spawn)
        # OWNERSHIP: both numbers are in this process's table now, whatever became of the child.
        if spawn.pidfd >= 0 and pid > 0:
            process._number = spawn.pidfd
        if spawn.listener >= 0:
            listener._number = spawn.listener
    finally:
        free(spawn.argv)
        free(spawn.envp)
    if pid < 0:
        failed(-pid)
    if spawn.error:
        os.waitid(os.P_PID, pid, os.WEXITED)
        process.close()
        listener.close()
        step = spawn.step.decode()
        if step == "seccomp" and spawn.error == EINVAL:
            raise UnsupportedError("the seccomp notifier (SECCOMP_FILTER_FLAG_NEW_LISTENER)", "5.0", EINVAL)
        about = os.fsdecode(directory if step == "chdir" else path)
        raise OSError(spawn.error, f"{step}: {os.strerror(spawn.error)}", about)
    if spawn.listener < 0:
        os.waitid(os.P_PID, pid, os.WEXITED)
        process.close()
        raise Error("the target died before its filter was loaded")
    return pid, process, listener
