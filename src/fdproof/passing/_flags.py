"""The flags of one call that belong to the caller; the others have a better place, which is said."""

import socket

from fdproof._errors import FlagError

__all__ = ["receive_flag_bits", "send_flag_bits"]

_SEND = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_RECEIVE = socket.MSG_DONTWAIT | socket.MSG_WAITALL | socket.MSG_CMSG_CLOEXEC

_REMEDIES = {
    "MSG_PEEK": "pass peek=True to receive()",
    "MSG_OOB": "urgent bytes are received without the descriptors that came with them",
    "MSG_TRUNC": "what does not fit is reported by TruncatedError",
    "MSG_CTRUNC": "what does not fit is reported by TruncatedError",
    "MSG_ERRQUEUE": "a Unix socket has no error queue",
    "MSG_CMSG_CLOEXEC": "it belongs to receive(), where it is always set",
    "MSG_WAITALL": "it belongs to receive()",
}


def send_flag_bits(flags: int) -> int:
    """Return the bits of ``flags`` for sendmsg; FlagError for what does not belong there."""
    return _checked(flags, _SEND, "MSG_DONTWAIT")


def receive_flag_bits(flags: int) -> int:
    """Return the bits of ``flags`` for recvmsg; FlagError for what does not belong there."""
    return _checked(flags, _RECEIVE, "MSG_DONTWAIT and MSG_WAITALL")


def _checked(flags: int, allowed: int, names: str) -> int:
    if not isinstance(flags, int) or isinstance(flags, bool) or flags < 0:
        raise FlagError(f"flags: {flags!r} is no flag of a message: known are {names}")
    unknown = int(flags) & ~allowed
    if unknown:
        for name, remedy in _REMEDIES.items():
            if unknown & getattr(socket, name):
                raise FlagError(f"flags: {name} does not belong here: {remedy}")
        raise FlagError(f"flags: {unknown:#x} does not belong here: known are {names}")
    return int(flags)
