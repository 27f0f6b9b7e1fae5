"""libseccomp, the shared library: it names system calls and compiles filters, and loads nothing."""

import ctypes
import functools
import os
from collections.abc import Sequence

from fdproof._creating import memfd
from fdproof._errors import UnsupportedError

__all__ = ["compile_filter", "name_of", "number_of"]

_ACT_ALLOW = 0x7FFF0000
_ACT_NOTIFY = 0x7FC00000
_ATTRIBUTE_BAD_ARCHITECTURE = 2
_ATTRIBUTE_OPTIMIZE = 8
_BINARY_TREE = 2
_NOT_EQUAL = 1
_MASKED_EQUAL = 7
_UNKNOWN = -1
# What seccomp_api_get() says where the kernel, as it lets itself be asked, has the notifier.
_API_WITH_NOTIFY = 5

# KERNEL: numbers since 5.0 are the same on every architecture; here are those that a libseccomp of 2021
# (2.5.4, in Debian 12) does not know.
_NEWER = {
    "memfd_secret": 447,
    "cachestat": 451,
    "fchmodat2": 452,
    "statmount": 457,
    "listmount": 458,
    "open_tree_attr": 467,
    "file_getattr": 468,
    "file_setattr": 469,
}
_NEWER_NAMES = {number: name for name, number in _NEWER.items()}


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise UnsupportedError(
            "libseccomp.so.2",
            "4.14",
            remedy="install the package libseccomp2 (Debian, Ubuntu) or libseccomp (Fedora, Arch)",
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = (ctypes.c_uint32,)
    library.seccomp_release.argtypes = (ctypes.c_void_p,)
    library.seccomp_release.restype = None
    library.seccomp_attr_set.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
    library.seccomp_rule_add_array.argtypes = (
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(_Comparison),
    )
    library.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
    library.seccomp_syscall_resolve_num_arch.argtypes = (ctypes.c_uint32, ctypes.c_int)
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    library.seccomp_arch_native.restype = ctypes.c_uint32
    return library


@functools.cache
def number_of(name: str) -> int | None:
    """Return the native number of a system call, or None if this architecture has no such call."""
    number = int(_library().seccomp_syscall_resolve_name(name.encode()))
    if number == _UNKNOWN:
        return _NEWER.get(name)
    # Calls that exist on other architectures only have negative pseudo numbers.
    return number if number >= 0 else None


@functools.cache
def name_of(number: int) -> str:
    """Return the name of a native system call; ``syscall_N`` if nobody knows it."""
    library = _library()
    text = library.seccomp_syscall_resolve_num_arch(library.seccomp_arch_native(), number)
    if not text:
        return _NEWER_NAMES.get(number, f"syscall_{number}")
    try:
        return ctypes.string_at(text).decode()
    finally:
        _free()(ctypes.c_void_p(text))


@functools.cache
def _free() -> "ctypes._NamedFuncPointer":
    return ctypes.CDLL(None).free


def compile_filter(rules: Sequence[tuple[int, Sequence[tuple[int, int | None, int]]]]) -> bytes:
    """Compile a filter that notifies for some calls and allows all others.

    Args:
        rules: per rule a call's number, and comparisons that must all hold: argument index, mask,
            value, meaning ``arguments[index] & mask == value``; a mask of None means
            ``arguments[index] != value``.

    Returns:
        The program: an array of ``struct sock_filter``.

    Raises:
        OSError: libseccomp refuses a rule.
        UnsupportedError: the kernel has no notifier (5.0), or a sandbox hides it.
    """
    library = _library()
    if library.seccomp_api_get() < _API_WITH_NOTIFY:
        raise UnsupportedError("the seccomp notifier (SECCOMP_RET_USER_NOTIF)", "5.0")
    context = library.seccomp_init(_ACT_ALLOW)
    if not context:
        raise MemoryError("seccomp_init")
    try:
        # Calls of another architecture (32-bit programs) pass unseen instead of killing the program.
        _check(library.seccomp_attr_set(context, _ATTRIBUTE_BAD_ARCHITECTURE, _ACT_ALLOW))
        _check(library.seccomp_attr_set(context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE))
        for number, conditions in rules:
            comparisons = (_Comparison * len(conditions))(
                *(
                    _Comparison(index, _NOT_EQUAL, value, 0)
                    if mask is None
                    else _Comparison(index, _MASKED_EQUAL, mask, value)
                    for index, mask, value in conditions
                )
            )
            _check(
                library.seccomp_rule_add_array(
                    context, _ACT_NOTIFY, number, len(conditions), comparisons
                )
            )
        with memfd("seccomp program") as file:
            _check(library.seccomp_export_bpf(context, file.fileno()))
            size = os.fstat(file.fileno()).st_size
            return os.pread(file.fileno(), size, 0)
    finally:
        library.seccomp_release(context)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"libseccomp: {os.strerror(-result)}")
