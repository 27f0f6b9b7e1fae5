"""Descriptors, bytes and identities over Unix sockets, each owned as it arrives."""

# Registers what multiprocessing needs to pass a Descriptor on.
from fdproof.passing import _pickling as _pickling
from fdproof.passing._channel import Channel as Channel
from fdproof.passing._message import Message as Message
from fdproof.passing._peer import peer as peer
from fdproof.passing._receive import receive as receive
from fdproof.passing._records import Credentials as Credentials
from fdproof.passing._records import Peer as Peer
from fdproof.passing._send import send as send
from fdproof.passing._sharing import stop_sharing as stop_sharing

__all__ = [
    "Channel",
    "Credentials",
    "Message",
    "Peer",
    "peer",
    "receive",
    "send",
    "stop_sharing",
]

for _name in __all__:
    _thing = globals()[_name]
    if getattr(_thing, "__module__", None) != __name__:
        try:
            _thing.__module__ = __name__
        except (AttributeError, TypeError):
            pass  # compiled types keep the module they have
del _name, _thing
