/* Messages with ancillary data, and what a socket says of its peer: each call's result, or -errno.
 *
 * Constants newer than the oldest supported kernel headers are spelled out. */
#ifndef FDPROOF_ANCILLARY_H
#define FDPROOF_ANCILLARY_H

#include "../_kernel.h"

#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

/* KERNEL: SCM_MAX_FD, the most descriptors that one message carries (2.6.38). */
#define FDP_MOST_FILES 253

/* Room for credentials and a pidfd besides the descriptors, so that they never crowd those out. */
#define FDP_RESERVED_ROOM (CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int)))

/* The control data of any message, aligned as its headers must be. */
union fdp_control {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(FDP_MOST_FILES * sizeof(int)) + FDP_RESERVED_ROOM];
};

static inline long long fdp_sendmsg(int sock, const struct msghdr *message, int flags)
{
    ssize_t sent = sendmsg(sock, message, flags);
    return sent < 0 ? -errno : sent;
}

static inline long long fdp_recvmsg(int sock, struct msghdr *message, int flags)
{
    ssize_t received = recvmsg(sock, message, flags);
    return received < 0 ? -errno : received;
}

static inline int fdp_getsockopt(int sock, int option, void *value, socklen_t *length)
{
    FDP_RESULT(getsockopt(sock, SOL_SOCKET, option, value, length));
}

/* The value of an option that is an int. */
static inline int fdp_socket_option(int sock, int option)
{
    int value = 0;
    socklen_t length = sizeof value;
    int result = fdp_getsockopt(sock, option, &value, &length);
    return result < 0 ? result : value;
}

/* Append a header and room for its data; the caller has seen to it that both fit. */
static inline void *fdp_append(struct msghdr *message, int type, size_t length)
{
    struct cmsghdr *header = (struct cmsghdr *)((char *)message->msg_control + message->msg_controllen);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = type;
    header->cmsg_len = CMSG_LEN(length);
    message->msg_controllen += CMSG_SPACE(length);
    return CMSG_DATA(header);
}

#endif
