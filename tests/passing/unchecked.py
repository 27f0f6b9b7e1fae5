"""sendmsg and recvmsg with control buffers that ``socket`` would not build: any bytes, or no right to write."""

import ctypes
import mmap
import os
import socket
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.recvmsg.restype = ctypes.c_ssize_t
_libc.sendmsg.restype = ctypes.c_ssize_t

_FAILED = ctypes.c_void_p(-1).value


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Answer(NamedTuple):
    """What recvmsg said: the bytes of data, those of control data that it counted, its flags."""

    data: int
    control: int
    flags: int


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def send_control(sock: socket.socket, data: bytes, control: bytes) -> int:
    """Send with these very bytes as control data, headers and all; returns how much data went."""
    text = ctypes.create_string_buffer(data, len(data) or 1)
    vector = _Vector(ctypes.addressof(text), len(data))
    # An array of words, because headers are aligned.
    words = (ctypes.c_uint64 * (len(control) // 8 + 1))()
    ctypes.memmove(words, control, len(control))
    start = ctypes.addressof(words) if control else None
    header = _Header(None, 0, ctypes.pointer(vector), 1, start, len(control), 0)
    return _checked(_libc.sendmsg(sock.fileno(), ctypes.byref(header), socket.MSG_DONTWAIT))


def receive_across(sock: socket.socket, before: int, *, writable: str, room: int = 200) -> Answer:
    """Receive with a control buffer that lies across a border, on one side of which it is read-only.

    Args:
        sock: has a message.
        before: bytes of the buffer in front of the border.
        writable: "before" or "after".
        room: bytes of the whole buffer.
    """
    page = mmap.PAGESIZE
    start = _libc.mmap(None, 2 * page, mmap.PROT_READ | mmap.PROT_WRITE, 0x22, -1, 0)
    assert start != _FAILED
    try:
        locked = start + page if writable == "before" else start
        assert _libc.mprotect(locked, page, mmap.PROT_READ) == 0
        data = ctypes.create_string_buffer(100)
        vector = _Vector(ctypes.addressof(data), len(data))
        header = _Header(None, 0, ctypes.pointer(vector), 1, start + page - before, room, 0)
        result = _libc.recvmsg(sock.fileno(), ctypes.byref(header), socket.MSG_DONTWAIT)
        return Answer(_checked(result), header.control_length, header.flags)
    finally:
        _libc.munmap(start, 2 * page)
