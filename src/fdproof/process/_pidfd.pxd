# cython: language_level=3
"""The system calls on a pidfd, for the compiled layer."""

from libc.stdint cimport int32_t, uint32_t, uint64_t
from posix.types cimport pid_t


cdef extern from "errno.h":
    int EAGAIN
    int ECHILD
    int EINTR
    int EINVAL
    int ENOSYS
    int ENOTTY
    int EPERM
    int ESRCH
    int ETIMEDOUT

cdef extern from "_pidfd.h" nogil:
    enum:
        POLLHUP
        POLLIN
        SIGKILL
        WNOHANG

    enum:
        FDP_INFO_PID
        FDP_INFO_CREDENTIALS
        FDP_INFO_CGROUP
        FDP_INFO_EXIT
        FDP_INFO_CORE_DUMP
        FDP_INFO_CORE_SIGNAL
        FDP_INFO_CORE_CODE

    struct fdp_pidfd_info:
        uint64_t mask
        uint64_t cgroup
        uint32_t pid
        uint32_t tgid
        uint32_t ppid
        uint32_t ruid
        uint32_t rgid
        uint32_t euid
        uint32_t egid
        uint32_t suid
        uint32_t sgid
        uint32_t fsuid
        uint32_t fsgid
        int32_t exit_code
        uint32_t coredump_mask
        uint32_t coredump_signal
        uint32_t coredump_code

    int fdp_pidfd_send_signal(int pidfd, int number, unsigned int flags)
    int fdp_reap(int pidfd, int options, int *returncode)
    int fdp_kill_child(pid_t pid)
    void fdp_reap_pid(pid_t pid)
    int fdp_poll(int number, short events, long long timeout_ns)
    long long fdp_clock_ns()
    int fdp_get_info(int pidfd, fdp_pidfd_info *info, uint64_t wanted)
    int fdp_exit_known(int pidfd, int *returncode)
    int fdp_pidfd_namespace(int pidfd, unsigned int code)
    int fdp_is_on_pidfs(int number)
