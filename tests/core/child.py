"""Checks that need a process of their own: limits, filters and forks do not outlive it."""

import ctypes
import os
import traceback
from collections.abc import Callable, Mapping

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL = 4


def in_child(check: Callable[[], None]) -> None:
    """Run ``check`` in a forked child; what it raises fails the caller, with its traceback."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            check()
            code = 0
        except BaseException:
            # A pipe holds this much without a reader.
            os.write(writing, traceback.format_exc().encode()[-60_000:])
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"in the child (status {status:#x}):\n{text}"


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def refuse(calls: Mapping[str, tuple[int, tuple[int, int] | None]]) -> None:
    """Make system calls fail, for the rest of this process: only inside ``in_child``.

    Args:
        calls: for each name, the errno, and the argument (index, value) that it is limited to.
    """
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ALLOW)))
    for name, (number, only) in calls.items():
        rules = (_Comparison * 1)(
            _Comparison(only[0], _EQUAL, only[1], 0) if only else _Comparison()
        )
        result = seccomp.seccomp_rule_add_array(
            context,
            ctypes.c_uint32(_ERRNO | number),
            seccomp.seccomp_syscall_resolve_name(name.encode()),
            1 if only else 0,
            rules,
        )
        assert result == 0, (name, result)
    assert seccomp.seccomp_load(context) == 0
