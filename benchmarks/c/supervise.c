/* The least that a supervisor can do: receive, resume. With "poll", it can also be stopped. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

static double now(void)
{
    struct timespec value;
    clock_gettime(CLOCK_MONOTONIC, &value);
    return value.tv_sec + value.tv_nsec * 1e-9;
}

static int load_filter(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
#if defined(__x86_64__)
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
#elif defined(__aarch64__)
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_AARCH64, 0, 3),
#else
#error "name the architecture here"
#endif
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                   SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
}

/* What fdproof's loop waits for as well: the end of the process, and its order-giver's line. */
static void wait_for_call(struct pollfd *waiting)
{
    while (poll(waiting, 3, 10000) < 0 && errno == EINTR)
        ;
    if (!(waiting[0].revents & POLLIN))
        exit(1);
}

int main(int count, char **arguments)
{
    volatile int *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int polling = count > 3 && strcmp(arguments[1], "poll") == 0;
    struct seccomp_notif call;
    struct seccomp_notif_resp answer;
    struct pollfd waiting[3];
    double started = 0;
    long index, times;
    pid_t child;

    if (count < 4)
        return 2;
    times = atol(arguments[2]);
    /* The child shares this table until it execs, so the listener is here as soon as it is made. */
    child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0) {
        int listener = load_filter();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        page[0] = listener < 0 ? listener : listener + 1;
        execl(arguments[3], arguments[3], arguments[2], (char *)NULL);
        _exit(127);
    }
    while (page[0] == 0)
        sched_yield();
    if (page[0] < 0)
        return 1;
    ioctl(page[0] - 1, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1UL);
    waiting[0] = (struct pollfd){page[0] - 1, POLLIN, 0};
    waiting[1] = (struct pollfd){syscall(SYS_pidfd_open, child, 0), POLLIN, 0};
    waiting[2] = (struct pollfd){eventfd(0, EFD_CLOEXEC), POLLIN, 0};
    for (index = 0; index < times; index++) {
        if (polling)
            wait_for_call(waiting);
        memset(&call, 0, sizeof call);
        if (ioctl(waiting[0].fd, SECCOMP_IOCTL_NOTIF_RECV, &call) < 0)
            return 1;
        if (index == 0)
            started = now();
        memset(&answer, 0, sizeof answer);
        answer.id = call.id;
        answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        if (ioctl(waiting[0].fd, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0)
            return 1;
    }
    printf("%.12f\n", (now() - started) / times);
    waitpid(child, NULL, 0);
    return 0;
}
