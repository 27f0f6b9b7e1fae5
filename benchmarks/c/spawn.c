/* Run a command many times with nothing around it: vfork + exec + waitid, or posix_spawn + waitid. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static double now(void)
{
    struct timespec value;
    clock_gettime(CLOCK_MONOTONIC, &value);
    return value.tv_sec + value.tv_nsec * 1e-9;
}

static void run_once(int spawning, char **command)
{
    siginfo_t ended;
    pid_t child;

    if (spawning) {
        if (posix_spawn(&child, command[0], NULL, NULL, command, environ) != 0)
            exit(1);
    } else {
        child = vfork();
        if (child == 0) {
            execve(command[0], command, environ);
            _exit(127);
        }
    }
    if (child < 0 || waitid(P_PID, child, &ended, WEXITED) < 0 || ended.si_status != 0)
        exit(1);
}

int main(int count, char **arguments)
{
    long index, times;
    int spawning, result;
    double started;

    if (count < 4)
        return 2;
    spawning = strcmp(arguments[1], "posix_spawn") == 0;
    times = atol(arguments[2]);
    result = fcntl(1, F_DUPFD_CLOEXEC, 3);
    if (result < 0 || dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 1) < 0)
        return 1;
    for (index = 0; index < times / 10; index++)
        run_once(spawning, arguments + 3);
    started = now();
    for (index = 0; index < times; index++)
        run_once(spawning, arguments + 3);
    dprintf(result, "%.12f\n", (now() - started) / times);
    return 0;
}
