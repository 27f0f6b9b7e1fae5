# cython: language_level=3
"""System calls for the compiled layer: each returns its result or -errno, needs no GIL, has no policy."""

from posix.types cimport mode_t, pid_t


cdef extern from "_kernel.h" nogil:
    struct open_how:
        unsigned long long flags
        unsigned long long mode
        unsigned long long resolve

    struct itimerspec:
        pass

    enum:
        AT_FDCWD
        AF_UNIX
        EFD_SEMAPHORE
        FD_CLOEXEC
        F_DUPFD
        F_DUPFD_CLOEXEC
        F_DUPFD_QUERY
        F_GETFD
        F_GETFL
        F_SETFD
        F_SETFL
        GRND_NONBLOCK
        KCMP_FILE
        MFD_ALLOW_SEALING
        MFD_CLOEXEC
        O_CLOEXEC
        O_DIRECT
        O_NONBLOCK
        O_PATH
        PIDFD_THREAD

    pid_t getpid()

    # Each of these is one system call: its result, or -errno.
    int fdp_openat(int directory, const char *path, int flags, unsigned int mode)
    int fdp_openat2(int directory, const char *path, open_how *how)
    int fdp_close(int number)
    int fdp_dup3(int source, int number, int flags)
    int fdp_fcntl(int number, int command, long argument)
    int fdp_pipe2(int *numbers, int flags)
    int fdp_socketpair(int family, int kind, int protocol, int *numbers)
    int fdp_memfd_create(const char *name, unsigned int flags)
    int fdp_eventfd2(unsigned int initial, int flags)
    int fdp_timerfd_create(int clock, int flags)
    int fdp_timerfd_settime(int number, long long after_ns, long long every_ns)
    int fdp_signalfd4(unsigned long long mask, int flags)
    int fdp_epoll_create1(int flags)
    int fdp_inotify_init1(int flags)
    int fdp_pidfd_open(pid_t pid, unsigned int flags)
    int fdp_pidfd_getfd(int pidfd, int number, unsigned int flags)
    int fdp_kcmp(pid_t first, pid_t second, int kind, unsigned long one, unsigned long two)
    int fdp_close_range(unsigned int first, unsigned int last, unsigned int flags)
    int fdp_prctl(int option, unsigned long argument)
    int fdp_ioctl(int number, unsigned long request, void *argument)


cdef int failed(int number, object path=*) except -1
