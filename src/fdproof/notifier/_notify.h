/* The notifier's system calls, and the two ways to start a target: each returns a result or -errno.
 *
 * A child that must not run Python, or that shares its parent's memory, runs the functions here. */
#ifndef FDPROOF_NOTIFY_H
#define FDPROOF_NOTIFY_H

#include "../_kernel.h"

#include <limits.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif

/* KERNEL: execveat ignores its directory when the path is absolute, and exit_group all but the lowest byte,
 * so these values change nothing; the filter lets them pass. The start of a target is not supervised: its
 * supervisor stands still until the exec and could not answer. */
#define FDP_FIRST_EXEC 0x0fd0f001
#define FDP_NO_EXEC 0x0fd0f07f

/* A call that the kernel refuses with EINVAL on its own, used by a target to speak to its supervisor. */
#define FDP_MARK_FIRST 0xffffffffU

/* Written by the child, read by the parent, on a page that both share. */
struct fdp_handover {
    volatile int listener; /* 0 not yet; number + 1; or -errno */
    volatile int taken;    /* the supervisor holds the listener */
};

static inline long fdp_futex(volatile int *word, int operation, int value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

/* Load a filter for the calling thread: the listener's number, or -errno. */
static inline int fdp_load_filter(struct sock_fprog *program)
{
    long result;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, program);
    if (result < 0 && errno == EINVAL) /* before 5.19 */
        result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, program);
    return result < 0 ? -errno : (int)result;
}

/* In a forked child: load the filter, wait until the supervisor has fetched the listener, close it here.
 * futex and close are supervised like all others if the filter names them. */
static inline int fdp_enter(struct sock_fprog *program, struct fdp_handover *page)
{
    int listener = fdp_load_filter(program);
    page->listener = listener < 0 ? listener : listener + 1;
    fdp_futex(&page->listener, FUTEX_WAKE, INT_MAX, NULL);
    if (listener < 0)
        return listener;
    while (!page->taken)
        fdp_futex(&page->taken, FUTEX_WAIT, 0, NULL);
    /* OWNERSHIP: the supervisor holds the listener alone from here on: if it dies, calls get ENOSYS. */
    syscall(SYS_close, listener);
    return 0;
}

/* In the parent: wait for the child's word, at most timeout_ms: 0 nothing yet, number + 1, or -errno. */
static inline int fdp_await_listener(struct fdp_handover *page, int timeout_ms)
{
    struct timespec timeout = {.tv_sec = timeout_ms / 1000, .tv_nsec = (timeout_ms % 1000) * 1000000L};
    if (page->listener == 0)
        fdp_futex(&page->listener, FUTEX_WAIT, 0, &timeout);
    return page->listener;
}

static inline void fdp_release_child(struct fdp_handover *page)
{
    page->taken = 1;
    fdp_futex(&page->taken, FUTEX_WAKE, INT_MAX, NULL);
}

static inline int fdp_receive(int listener, struct seccomp_notif *notification)
{
    memset(notification, 0, sizeof *notification);
    FDP_RESULT(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, notification));
}

static inline int fdp_answer(int listener, __u64 id, long long value, int error, unsigned int flags)
{
    struct seccomp_notif_resp response = {.id = id, .val = value, .error = -error, .flags = flags};
    FDP_RESULT(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response));
}

static inline int fdp_resume(int listener, __u64 id)
{
    return fdp_answer(listener, id, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

static inline int fdp_id_valid(int listener, __u64 id)
{
    FDP_RESULT(ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id));
}

/* KERNEL: 6.6; wakes the other side on the same CPU, which saves the trip to an idle one. */
static inline int fdp_sync_wake_up(int listener)
{
    FDP_RESULT(ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1UL));
}

static inline int fdp_mark(unsigned int code)
{
    FDP_RESULT(syscall(SYS_close_range, FDP_MARK_FIRST, 0, code));
}

static inline long long fdp_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

struct fdp_spawn {
    const char *path; /* absolute */
    char **argv;
    char **envp;
    const char *directory; /* or NULL */
    struct sock_fprog *program;
    int kill_with_parent;
    sigset_t mask;
    pid_t parent;
    int pidfd;
    int listener; /* in the parent's table, because the child shares it while it loads the filter */
    int error;
    const char *step;
};

/* The vforked child: shares memory and table with its parent, which stands still until the exec. */
static int fdp_spawn_child(void *argument)
{
    struct fdp_spawn *spawn = argument;
    struct sigaction action, fresh;
    int number;

    memset(&fresh, 0, sizeof fresh);
    fresh.sa_handler = SIG_DFL;
    /* Handlers are the parent's code: none may run here. Python ignores two signals that programs expect. */
    for (number = 1; number < 65; number++)
        if (sigaction(number, NULL, &action) == 0 &&
            ((action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) || number == SIGPIPE ||
             number == SIGXFSZ))
            sigaction(number, &fresh, NULL);

    spawn->step = "prctl";
    if (spawn->kill_with_parent) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
            goto failed;
        if (getppid() != spawn->parent)
            _exit(127);
    }
    if (spawn->directory) {
        spawn->step = "chdir";
        if (chdir(spawn->directory) < 0)
            goto failed;
    }
    sigprocmask(SIG_SETMASK, &spawn->mask, NULL);
    spawn->step = "seccomp";
    spawn->listener = fdp_load_filter(spawn->program);
    if (spawn->listener < 0) {
        spawn->error = -spawn->listener;
        _exit(127);
    }
    /* INVARIANT: from here on only these two calls are made: any other might be one that the filter names.
     * KERNEL: the exec gives the child a table of its own before it closes what is close-on-exec, so the
     * listener, which always is, stays open in the parent alone. */
    spawn->step = "execve";
    syscall(SYS_execveat, FDP_FIRST_EXEC, spawn->path, spawn->argv, spawn->envp, 0);
    spawn->error = errno;
    syscall(SYS_exit_group, FDP_NO_EXEC);
failed:
    spawn->error = errno;
    _exit(127);
}

/* Start a command under a filter: its pid, or -errno if there is no child at all. */
static inline int fdp_spawn_target(struct fdp_spawn *spawn)
{
    static const size_t size = 64 * 1024;
    sigset_t all;
    int result;
    char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

    if (stack == MAP_FAILED)
        return -errno;
    spawn->listener = spawn->pidfd = -1;
    spawn->error = 0;
    spawn->parent = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &spawn->mask);
    result = clone(fdp_spawn_child, stack + size, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD | SIGCHLD,
                   spawn, &spawn->pidfd);
    if (result < 0)
        result = -errno;
    pthread_sigmask(SIG_SETMASK, &spawn->mask, NULL);
    munmap(stack, size);
    return result;
}

#endif
