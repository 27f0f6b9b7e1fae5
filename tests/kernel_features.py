"""What the running kernel can do, found by asking it and not by its version.

A sandbox may refuse what the version promises, and a distribution may have it earlier.
Each feature has the name that tests give to ``requires_kernel``.
"""

import ctypes
import errno
import fcntl
import functools
import os
import socket
import struct
from collections.abc import Callable

F_DUPFD_QUERY = 1027
KCMP_FILE = 0
CLOSE_RANGE_CLOEXEC = 4

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_IOCTL_NOTIF_ADDFD = 0x40182103
SECCOMP_IOCTL_NOTIF_SET_FLAGS = 0x40082104
SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1
SECCOMP_ADDFD_FLAG_SEND = 2
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x10000000
PIDFD_GET_INFO = 0xC040FF0B
PIDFD_INFO_EXIT = 8
PIDFD_INFO_COREDUMP = 16
PIDFD_SIGNAL_PROCESS_GROUP = 4
PIDFD_GET_NET_NAMESPACE = 0xFF04
PIDFS_MAGIC = 0x50494446
SO_PASSRIGHTS = 83

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@functools.cache
def _number(name: str) -> int:
    """The number of a system call here; libseccomp knows it for every architecture."""
    return int(ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name(name.encode()))


def _syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    """The result of a system call, or -errno."""
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_libc.syscall(ctypes.c_long(_number(name)), *wide))
    return -ctypes.get_errno() if result < 0 else result


def _with_descriptor(probe: Callable[[int], bool]) -> bool:
    number = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return probe(number)
    finally:
        os.close(number)


def _openat2() -> bool:
    how = struct.pack("QQQ", os.O_RDONLY | os.O_CLOEXEC, 0, 0)
    number = _syscall("openat2", -1, b"/dev/null", how, len(how))
    if number < 0:
        return False
    os.close(number)
    return True


def _dupfd_query(number: int) -> bool:
    try:
        return fcntl.fcntl(number, F_DUPFD_QUERY, number) == 1
    except OSError:
        return False


def _kcmp(number: int) -> bool:
    return _syscall("kcmp", os.getpid(), os.getpid(), KCMP_FILE, number, number) == 0


def _pidfd_open(flags: int = 0) -> bool:
    try:
        os.close(os.pidfd_open(os.getpid(), flags))
    except OSError:
        return False
    return True


def _pidfd_getfd(number: int) -> bool:
    try:
        pidfd = os.pidfd_open(os.getpid())
    except OSError:
        return False
    try:
        fetched = _syscall("pidfd_getfd", pidfd, number, 0)
    finally:
        os.close(pidfd)
    if fetched < 0:
        return False
    os.close(fetched)
    return True


def _on_own_pidfd(probe: Callable[[int], bool]) -> bool:
    try:
        pidfd = os.pidfd_open(os.getpid())
    except OSError:
        return False
    try:
        return probe(pidfd)
    finally:
        os.close(pidfd)


def _info(pidfd: int, wanted: int = 0) -> int:
    """The mask of what PIDFD_GET_INFO tells, or 0."""
    answer = ctypes.create_string_buffer(struct.pack("Q56x", wanted), 64)
    if _syscall("ioctl", pidfd, PIDFD_GET_INFO, answer) < 0:
        return 0
    return int(struct.unpack_from("Q", answer.raw)[0])


def _info_after_reaping() -> bool:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    finally:
        os.waitpid(pid, 0)
    try:
        return bool(_info(pidfd, PIDFD_INFO_EXIT) & PIDFD_INFO_EXIT)
    finally:
        os.close(pidfd)


def _info_of_core_dump(pidfd: int) -> bool:
    return bool(_info(pidfd, PIDFD_INFO_COREDUMP) & PIDFD_INFO_COREDUMP)


def _namespace(pidfd: int) -> bool:
    number = _syscall("ioctl", pidfd, PIDFD_GET_NET_NAMESPACE, 0)
    if number >= 0:
        os.close(number)
    return number >= 0


def _signal_scopes(pidfd: int) -> bool:
    # Signal 0 reaches nobody; a flag that is not known is EINVAL.
    result = _syscall("pidfd_send_signal", pidfd, 0, 0, PIDFD_SIGNAL_PROCESS_GROUP)
    return result in (0, -errno.ESRCH)


def _pidfs(pidfd: int) -> bool:
    # struct statfs begins with the type, in a word of the machine.
    answer = ctypes.create_string_buffer(256)
    return _syscall("fstatfs", pidfd, answer) == 0 and (
        struct.unpack_from("l", answer.raw)[0] == PIDFS_MAGIC
    )


def _memfd() -> bool:
    try:
        os.close(os.memfd_create("probe"))
    except OSError:
        return False
    return True


def _close_range() -> bool:
    last = 0x7FFFFFFF
    return _syscall("close_range", last, last, CLOSE_RANGE_CLOEXEC) == 0


def _pass_rights() -> bool:
    with socket.socket(socket.AF_UNIX) as unconnected:
        try:
            return unconnected.getsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS) == 1
        except OSError:
            return False


def _user_notification() -> bool:
    action = struct.pack("I", SECCOMP_RET_USER_NOTIF)
    return _syscall("seccomp", SECCOMP_GET_ACTION_AVAIL, 0, action) == 0


def _wait_killable_recv() -> bool:
    # Flags are looked at before the program: EFAULT means that only the program was wrong.
    flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    return _syscall("seccomp", SECCOMP_SET_MODE_FILTER, flags, 0) == -errno.EFAULT


def _listener() -> int:
    """A listener that hears nothing, or -errno. Only for a child: filters are for life."""
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    allow_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, SECCOMP_RET_ALLOW))
    program = struct.pack("HxxxxxxP", 1, ctypes.addressof(allow_all))
    return _syscall("seccomp", SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, program)


def _in_child(probe: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        answer = False
        try:
            answer = probe()
        finally:
            os._exit(0 if answer else 1)
    return os.waitpid(pid, 0)[1] == 0


def _sync_wake_up() -> bool:
    arguments = (SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
    return _syscall("ioctl", _listener(), *arguments) == 0


def _user_namespace() -> bool:
    return _syscall("unshare", CLONE_NEWUSER) == 0


def _io_uring() -> bool:
    ring = _syscall("io_uring_setup", 1, bytes(120))
    if ring >= 0:
        os.close(ring)
    return ring >= 0


def _addfd_send() -> bool:
    # A kernel that knows the flag goes on to the file that should be added, and there is none.
    addfd = struct.pack("QIIII", 0, SECCOMP_ADDFD_FLAG_SEND, 0xFFFFFFFF, 0, 0)
    return _syscall("ioctl", _listener(), SECCOMP_IOCTL_NOTIF_ADDFD, addfd) == -errno.EBADF


FEATURES: dict[str, Callable[[], bool]] = {
    "ADDFD_SEND": lambda: _in_child(_addfd_send),
    "F_DUPFD_QUERY": lambda: _with_descriptor(_dupfd_query),
    "PIDFD_GET_INFO": lambda: _on_own_pidfd(lambda pidfd: _info(pidfd) != 0),
    "PIDFD_GET_NAMESPACE": lambda: _on_own_pidfd(_namespace),
    "PIDFD_INFO_COREDUMP": lambda: _on_own_pidfd(_info_of_core_dump),
    "PIDFD_INFO_EXIT": _info_after_reaping,
    "PIDFD_SIGNAL_PROCESS_GROUP": lambda: _on_own_pidfd(_signal_scopes),
    "PIDFD_THREAD": lambda: _pidfd_open(os.O_EXCL),
    "SO_PASSRIGHTS": _pass_rights,
    "SYNC_WAKE_UP": lambda: _in_child(_sync_wake_up),
    "WAIT_KILLABLE_RECV": _wait_killable_recv,
    "close_range": _close_range,
    "io_uring": _io_uring,
    "kcmp": lambda: _with_descriptor(_kcmp),
    "memfd": _memfd,
    "openat2": _openat2,
    "pidfd_getfd": lambda: _with_descriptor(_pidfd_getfd),
    "pidfd_open": _pidfd_open,
    "pidfs": lambda: _on_own_pidfd(_pidfs),
    "seccomp notifier": _user_notification,
    "user namespaces": lambda: _in_child(_user_namespace),
}

_answers: dict[str, bool] = {}


def available(feature: str) -> bool:
    """Whether the running kernel has ``feature``; asked once.

    Raises:
        KeyError: no feature has this name.
    """
    if feature not in _answers:
        _answers[feature] = FEATURES[feature]()
    return _answers[feature]
