/* One inline function per system call: its result, or -errno; nothing else is decided here.
 *
 * Constants and structures newer than the oldest supported kernel headers are spelled out. */
#ifndef FDPROOF_KERNEL_H
#define FDPROOF_KERNEL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <linux/kcmp.h>
#include <linux/openat2.h>

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027
#endif
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#ifndef EFD_SEMAPHORE
#define EFD_SEMAPHORE 1
#endif
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 1U
#endif
#ifndef MFD_ALLOW_SEALING
#define MFD_ALLOW_SEALING 2U
#endif

#define FDP_RESULT(call)                    \
    do {                                    \
        long fdp_value = (call);            \
        return fdp_value < 0 ? -errno : (int)fdp_value; \
    } while (0)

static inline int fdp_openat(int directory, const char *path, int flags, unsigned int mode)
{
    FDP_RESULT(syscall(SYS_openat, directory, path, flags, mode));
}

static inline int fdp_openat2(int directory, const char *path, struct open_how *how)
{
    FDP_RESULT(syscall(SYS_openat2, directory, path, how, sizeof *how));
}

static inline int fdp_close(int number)
{
    FDP_RESULT(syscall(SYS_close, number));
}

static inline int fdp_dup3(int source, int number, int flags)
{
    FDP_RESULT(syscall(SYS_dup3, source, number, flags));
}

static inline int fdp_fcntl(int number, int command, long argument)
{
    FDP_RESULT(syscall(SYS_fcntl, number, command, argument));
}

static inline int fdp_pipe2(int *numbers, int flags)
{
    FDP_RESULT(syscall(SYS_pipe2, numbers, flags));
}

static inline int fdp_socketpair(int family, int kind, int protocol, int *numbers)
{
    FDP_RESULT(syscall(SYS_socketpair, family, kind, protocol, numbers));
}

static inline int fdp_memfd_create(const char *name, unsigned int flags)
{
    FDP_RESULT(syscall(SYS_memfd_create, name, flags));
}

static inline int fdp_eventfd2(unsigned int initial, int flags)
{
    FDP_RESULT(syscall(SYS_eventfd2, initial, flags));
}

static inline int fdp_timerfd_create(int clock, int flags)
{
    FDP_RESULT(syscall(SYS_timerfd_create, clock, flags));
}

static inline int fdp_timerfd_settime(int number, long long after_ns, long long every_ns)
{
    struct itimerspec value = {
        .it_value = {.tv_sec = after_ns / 1000000000, .tv_nsec = after_ns % 1000000000},
        .it_interval = {.tv_sec = every_ns / 1000000000, .tv_nsec = every_ns % 1000000000},
    };
    /* Through libc: it knows which of the 32-bit and 64-bit calls takes this structure. */
    FDP_RESULT(timerfd_settime(number, 0, &value, NULL));
}

static inline int fdp_signalfd4(unsigned long long mask, int flags)
{
    FDP_RESULT(syscall(SYS_signalfd4, -1, &mask, sizeof mask, flags));
}

static inline int fdp_epoll_create1(int flags)
{
    FDP_RESULT(syscall(SYS_epoll_create1, flags));
}

static inline int fdp_inotify_init1(int flags)
{
    FDP_RESULT(syscall(SYS_inotify_init1, flags));
}

static inline int fdp_pidfd_open(pid_t pid, unsigned int flags)
{
    FDP_RESULT(syscall(SYS_pidfd_open, pid, flags));
}

static inline int fdp_pidfd_getfd(int pidfd, int number, unsigned int flags)
{
    FDP_RESULT(syscall(SYS_pidfd_getfd, pidfd, number, flags));
}

static inline int fdp_kcmp(pid_t first, pid_t second, int kind, unsigned long one, unsigned long two)
{
    FDP_RESULT(syscall(SYS_kcmp, first, second, kind, one, two));
}

static inline int fdp_close_range(unsigned int first, unsigned int last, unsigned int flags)
{
    FDP_RESULT(syscall(SYS_close_range, first, last, flags));
}

static inline int fdp_prctl(int option, unsigned long argument)
{
    FDP_RESULT(syscall(SYS_prctl, option, argument, 0, 0, 0));
}

static inline int fdp_ioctl(int number, unsigned long request, void *argument)
{
    FDP_RESULT(syscall(SYS_ioctl, number, request, argument));
}

#endif
