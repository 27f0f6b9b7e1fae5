/* A target: the same cheap call many times. Told so, it prints the seconds that each took. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec value;
    clock_gettime(CLOCK_MONOTONIC, &value);
    return value.tv_sec + value.tv_nsec * 1e-9;
}

int main(int count, char **arguments)
{
    long index, times = count > 1 ? atol(arguments[1]) : 1;
    double started = now();

    for (index = 0; index < times; index++)
        syscall(SYS_getppid);
    if (count > 2)
        printf("%.12f\n", (now() - started) / times);
    return 0;
}
