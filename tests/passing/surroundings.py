"""What tests of passing need around them: another user, a ring, a set of capabilities."""

import ctypes
import os

from fdproof import Descriptor

# Nobody else's: the kernel counts what is in flight for each user.
_USER = 61_234

_CAPABILITIES = {"CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24}
_SYS_IO_URING_SETUP = 425

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def capable(*names: str) -> bool:
    """Whether this process has one of the capabilities."""
    with open("/proc/self/status", encoding="utf-8") as lines:
        held = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return any(held >> _CAPABILITIES[name] & 1 for name in names)


def become_ordinary() -> None:
    """An ordinary user for the rest of this process: only inside ``in_child``."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_USER, _USER, _USER)
        os.setresuid(_USER, _USER, _USER)
    assert not capable(*_CAPABILITIES)


def io_uring() -> Descriptor:
    """A ring of the smallest size; io_uring_setup(2)."""
    # struct io_uring_params, all zero.
    number = _libc.syscall(_SYS_IO_URING_SETUP, 1, ctypes.create_string_buffer(120))
    if number < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return Descriptor(number)
