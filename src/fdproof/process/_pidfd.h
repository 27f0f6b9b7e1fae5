/* The system calls on a pidfd: each returns its result or -errno.
 *
 * Constants and structures newer than the oldest supported kernel headers are spelled out. */
#ifndef FDPROOF_PIDFD_H
#define FDPROOF_PIDFD_H

#include "../_kernel.h"

#include <poll.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define FDP_P_PIDFD 3
#define FDP_PIDFS_MAGIC 0x50494446

/* struct pidfd_info of Linux 6.18; an older kernel fills in its beginning. */
struct fdp_pidfd_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t pid, tgid, ppid;
    uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
    uint32_t coredump_mask, coredump_signal;
    uint32_t coredump_code, unused;
    uint64_t supported;
};

enum {
    FDP_INFO_PID = 1,
    FDP_INFO_CREDENTIALS = 2,
    FDP_INFO_CGROUP = 4,
    FDP_INFO_EXIT = 8,
    FDP_INFO_CORE_DUMP = 16,
    FDP_INFO_CORE_SIGNAL = 64,
    FDP_INFO_CORE_CODE = 128,
};

static inline int fdp_pidfd_send_signal(int pidfd, int number, unsigned int flags)
{
    FDP_RESULT(syscall(SYS_pidfd_send_signal, pidfd, number, NULL, flags));
}

/* 1 and the return code (negative: the signal) when the child was reaped now, 0 if it has not ended. */
static inline int fdp_reap(int pidfd, int options, int *returncode)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (waitid((idtype_t)FDP_P_PIDFD, pidfd, &info, WEXITED | options) < 0)
        return -errno;
    if (info.si_pid == 0)
        return 0;
    *returncode = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return 1;
}

/* Only for an unreaped child, whose number nobody else can have. */
static inline int fdp_kill_child(pid_t pid)
{
    FDP_RESULT(syscall(SYS_kill, pid, SIGKILL));
}

/* A failed child may have no pidfd, on a kernel that ignores CLONE_PIDFD; unreaped, its pid is its own. */
static inline void fdp_reap_pid(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

/* The revents, 0 when the time is over (negative: never), or -errno. */
static inline int fdp_poll(int number, short events, long long timeout_ns)
{
    struct pollfd one = {.fd = number, .events = events};
    struct timespec left = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    int result = ppoll(&one, 1, timeout_ns < 0 ? NULL : &left, NULL);
    return result < 0 ? -errno : result == 0 ? 0 : one.revents;
}

static inline long long fdp_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static inline int fdp_get_info(int pidfd, struct fdp_pidfd_info *info, uint64_t wanted)
{
    memset(info, 0, sizeof *info);
    info->mask = wanted;
    /* KERNEL: PIDFD_GET_INFO (6.13); the size is part of the number, and a kernel takes any that it can fill. */
    FDP_RESULT(ioctl(pidfd, _IOWR(0xFF, 11, struct fdp_pidfd_info), info));
}

/* 1 and the return code if the kernel still knows how a reaped process ended, 0 if not (yet), or -errno. */
static inline int fdp_exit_known(int pidfd, int *returncode)
{
    struct fdp_pidfd_info info;
    int status, result = fdp_get_info(pidfd, &info, FDP_INFO_EXIT);
    if (result < 0)
        return result;
    if (!(info.mask & FDP_INFO_EXIT))
        return 0;
    status = info.exit_code;
    *returncode = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    return 1;
}

/* PIDFD_GET_*_NAMESPACE (6.11) */
static inline int fdp_pidfd_namespace(int pidfd, unsigned int code)
{
    FDP_RESULT(ioctl(pidfd, _IO(0xFF, code), 0));
}

/* 1 if descriptors of the same process have the same inode there (6.9), 0 if not, or -errno. */
static inline int fdp_is_on_pidfs(int number)
{
    struct statfs where;
    if (fstatfs(number, &where) < 0)
        return -errno;
    return where.f_type == FDP_PIDFS_MAGIC;
}

#endif
