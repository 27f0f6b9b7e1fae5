# cython: language_level=3
"""Messages with ancillary data, for the compiled layer: each call's result, or -errno."""

from posix.types cimport gid_t, pid_t, uid_t


cdef extern from "errno.h":
    int EAGAIN
    int EBADF
    int EINTR
    int EINVAL
    int EMFILE
    int ENODATA
    int ENOPROTOOPT
    int ERANGE
    int ESRCH

cdef extern from "_ancillary.h" nogil:
    ctypedef unsigned int socklen_t

    enum:
        AF_UNIX
        FDP_MOST_FILES
        FDP_RESERVED_ROOM
        MSG_CMSG_CLOEXEC
        MSG_CTRUNC
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_PEEK
        MSG_TRUNC
        MSG_WAITALL
        POLLIN
        POLLOUT
        POLLRDHUP
        SCM_CREDENTIALS
        SCM_PIDFD
        SCM_RIGHTS
        SOCK_SEQPACKET
        SOCK_STREAM
        SOL_SOCKET
        SO_DOMAIN
        SO_PEERCRED
        SO_PEERGROUPS
        SO_PEERPIDFD
        SO_TYPE

    struct iovec:
        void *iov_base
        size_t iov_len

    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags

    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type

    struct ucred:
        pid_t pid
        uid_t uid
        gid_t gid

    struct sockaddr_un:
        unsigned short sun_family
        char sun_path[108]

    union fdp_control:
        char bytes[1]

    size_t CMSG_LEN(size_t length)
    size_t CMSG_SPACE(size_t length)
    cmsghdr *CMSG_FIRSTHDR(msghdr *message)
    cmsghdr *CMSG_NXTHDR(msghdr *message, cmsghdr *header)
    void *CMSG_DATA(cmsghdr *header)

    long long fdp_sendmsg(int sock, const msghdr *message, int flags)
    long long fdp_recvmsg(int sock, msghdr *message, int flags)
    int fdp_getsockopt(int sock, int option, void *value, socklen_t *length)
    int fdp_socket_option(int sock, int option)
    void *fdp_append(msghdr *message, int type, size_t length)
