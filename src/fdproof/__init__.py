"""File descriptors that cannot leak, for Python on Linux."""

from fdproof._creating import epoll as epoll
from fdproof._creating import eventfd as eventfd
from fdproof._creating import inotify as inotify
from fdproof._creating import memfd as memfd
from fdproof._creating import open as open
from fdproof._creating import pidfd as pidfd
from fdproof._creating import pipe as pipe
from fdproof._creating import signalfd as signalfd
from fdproof._creating import socketpair as socketpair
from fdproof._creating import timerfd as timerfd
from fdproof._descriptor import Descriptor as Descriptor
from fdproof._descriptor import Pair as Pair
from fdproof._errors import ClosedError as ClosedError
from fdproof._errors import Error as Error
from fdproof._errors import FlagError as FlagError
from fdproof._errors import StaleError as StaleError
from fdproof._errors import StateError as StateError
from fdproof._errors import TruncatedError as TruncatedError
from fdproof._errors import UnsupportedError as UnsupportedError
from fdproof._flags import DescriptorFlags as DescriptorFlags
from fdproof._flags import FileFlags as FileFlags
from fdproof._flags import ResolveFlags as ResolveFlags
from fdproof._headroom import Headroom as Headroom
from fdproof._publication import OwnTable as OwnTable
from fdproof._publication import Reservation as Reservation
from fdproof._publication import Slot as Slot
from fdproof._publication import Table as Table
from fdproof._publication import Transaction as Transaction
from fdproof._publication import add as add
from fdproof._publication import own_table as own_table
from fdproof._publication import prepare as prepare
from fdproof._publication import receive as receive
from fdproof._publication import reserve as reserve
from fdproof._publication import transaction as transaction

__all__ = [
    "ClosedError",
    "Descriptor",
    "DescriptorFlags",
    "Error",
    "FileFlags",
    "FlagError",
    "Headroom",
    "OwnTable",
    "Pair",
    "Reservation",
    "ResolveFlags",
    "Slot",
    "StaleError",
    "StateError",
    "Table",
    "Transaction",
    "TruncatedError",
    "UnsupportedError",
    "add",
    "epoll",
    "eventfd",
    "inotify",
    "memfd",
    "open",
    "own_table",
    "pidfd",
    "pipe",
    "prepare",
    "receive",
    "reserve",
    "signalfd",
    "socketpair",
    "timerfd",
    "transaction",
]

# Tracebacks, pickles and documentation show the public home.
for _name in __all__:
    _thing = globals()[_name]
    if getattr(_thing, "__module__", None) != __name__:
        try:
            _thing.__module__ = __name__
        except (AttributeError, TypeError):
            pass  # compiled types and instances keep the module they have
del _name, _thing
