"""A server's descriptors beyond its process: activation, notification, stores, restarts."""

from fdproof.handover._activation import listeners as listeners
from fdproof.handover._handed import Entry as Entry
from fdproof.handover._handed import Handed as Handed
from fdproof.handover._offer import Offer as Offer
from fdproof.handover._offer import offer as offer
from fdproof.handover._service import Service as Service
from fdproof.handover._shelf import Kept as Kept
from fdproof.handover._store import Notification as Notification
from fdproof.handover._store import Refusal as Refusal
from fdproof.handover._store import Store as Store
from fdproof.handover._take import Connection as Connection
from fdproof.handover._take import Taken as Taken
from fdproof.handover._take import take as take
from fdproof.handover._take import take_async as take_async

__all__ = [
    "Connection",
    "Entry",
    "Handed",
    "Kept",
    "Notification",
    "Offer",
    "Refusal",
    "Service",
    "Store",
    "Taken",
    "listeners",
    "offer",
    "take",
    "take_async",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
del _name
