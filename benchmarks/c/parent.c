/* A parent of a given shape: it touches memory, opens descriptors, and then runs a command as often as
 * each line of its input says, by the way that the line names. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#define OF_PIDFD ((idtype_t)3)

extern char **environ;

static _Alignas(16) char stack[64 * 1024];

static double now(void)
{
    struct timespec value;
    clock_gettime(CLOCK_MONOTONIC, &value);
    return value.tv_sec + value.tv_nsec * 1e-9;
}

static int be_child(void *command)
{
    /* The table is shared until here, and only what is kept is copied. */
    syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_UNSHARE);
    execve(*(char **)command, command, environ);
    _exit(127);
}

static void by_vfork(char **command)
{
    siginfo_t ended;
    pid_t child = vfork();

    if (child == 0) {
        syscall(SYS_close_range, 3, ~0U, 0);
        execve(command[0], command, environ);
        _exit(127);
    }
    if (child < 0 || waitid(P_PID, child, &ended, WEXITED) < 0 || ended.si_status != 0)
        exit(1);
}

static void by_clone(char **command)
{
    siginfo_t ended;
    int pidfd;

    if (clone(be_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PIDFD | SIGCHLD,
              command, &pidfd) < 0)
        exit(1);
    if (waitid(OF_PIDFD, pidfd, &ended, WEXITED) < 0 || ended.si_status != 0)
        exit(1);
    close(pidfd);
}

static void take_shape(size_t mebibytes, long descriptors)
{
    struct rlimit limit;
    char *memory;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    while (descriptors-- > 0)
        if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0)
            exit(1);
    if (mebibytes == 0)
        return;
    memory = mmap(NULL, mebibytes << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(1);
    memset(memory, 1, mebibytes << 20);
}

int main(int count, char **arguments)
{
    char way[16];
    long times, index;

    if (count < 4)
        return 2;
    take_shape((size_t)atol(arguments[1]), atol(arguments[2]));
    while (scanf("%15s %ld", way, &times) == 2) {
        void (*once)(char **) = strcmp(way, "clone") == 0 ? by_clone : by_vfork;
        double started;
        for (index = 0; index <= times / 10; index++)
            once(arguments + 3);
        started = now();
        for (index = 0; index < times; index++)
            once(arguments + 3);
        printf("%.12f\n", (now() - started) / times);
        fflush(stdout);
    }
    return 0;
}
