/* Send descriptors over a pair of sockets, receive them, close them, and nothing else: the limit. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 253

static int ends[2], files[MOST], count;

static double now(void)
{
    struct timespec value;
    clock_gettime(CLOCK_MONOTONIC, &value);
    return value.tv_sec + value.tv_nsec * 1e-9;
}

static void pass_once(void)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(MOST * sizeof(int))];
    } control;
    char byte = 'x';
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control};
    size_t length = count * sizeof(int);
    int index, *numbers = (int *)CMSG_DATA(&control.header);

    message.msg_controllen = CMSG_SPACE(length);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(length);
    memcpy(numbers, files, length);
    if (sendmsg(ends[0], &message, MSG_NOSIGNAL) != 1)
        abort();
    message.msg_controllen = CMSG_SPACE(length);
    if (recvmsg(ends[1], &message, MSG_CMSG_CLOEXEC) != 1 || control.header.cmsg_len != CMSG_LEN(length))
        abort();
    for (index = 0; index < count; index++)
        if (close(numbers[index]) < 0)
            abort();
}

int main(int arguments_count, char **arguments)
{
    long index, times;
    double started;

    if (arguments_count != 3 || (count = atoi(arguments[2])) > MOST)
        return 2;
    times = atol(arguments[1]);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return 1;
    for (index = 0; index < count; index++)
        files[index] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (index = 0; index < times / 10; index++)
        pass_once();
    started = now();
    for (index = 0; index < times; index++)
        pass_once();
    printf("%.12f\n", (now() - started) / times);
    return 0;
}
