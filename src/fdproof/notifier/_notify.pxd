# cython: language_level=3
"""Declarations of _notify.h: the notifier's system calls and structures."""

from posix.types cimport pid_t


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLIN
        POLLHUP
    int poll(pollfd *descriptors, unsigned long count, int timeout)


cdef extern from "_notify.h" nogil:
    struct sock_fprog:
        unsigned short len
        void *filter

    struct seccomp_data:
        int nr
        unsigned int arch
        unsigned long long instruction_pointer
        unsigned long long args[6]

    struct seccomp_notif:
        unsigned long long id
        unsigned int pid
        unsigned int flags
        seccomp_data data

    struct fdp_handover:
        int listener
        int taken

    struct fdp_spawn:
        const char *path
        char **argv
        char **envp
        const char *directory
        sock_fprog *program
        int kill_with_parent
        int pidfd
        int listener
        int error
        const char *step

    enum:
        E2BIG
        EBADF
        EINTR
        EINVAL
        ENOENT
        ENOMEM
        EINPROGRESS
        FDP_MARK_FIRST
        MAP_ANONYMOUS
        MAP_SHARED
        PROT_READ
        PROT_WRITE
    void *MAP_FAILED
    void *mmap(void *address, size_t length, int protection, int flags, int number, long offset)
    int munmap(void *address, size_t length)

    int fdp_enter(sock_fprog *program, fdp_handover *page)
    int fdp_await_listener(fdp_handover *page, int timeout_ms)
    void fdp_release_child(fdp_handover *page)
    int fdp_receive(int listener, seccomp_notif *notification)
    int fdp_answer(int listener, unsigned long long id, long long value, int error, unsigned int flags)
    int fdp_resume(int listener, unsigned long long id)
    int fdp_id_valid(int listener, unsigned long long id)
    int fdp_sync_wake_up(int listener)
    int fdp_mark(unsigned int code)
    long long fdp_now_ns()
    int fdp_spawn_target(fdp_spawn *spawn)
