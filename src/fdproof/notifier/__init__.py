"""The seccomp notifier: supervise the system calls of a target, and answer them.

Needs no privilege: a target gives up gaining any (no_new_privs). Only the calls that a filter names
stop; everything else runs at full speed in the kernel.
"""

from fdproof.notifier._filter import Condition as Condition
from fdproof.notifier._filter import Filter as Filter
from fdproof.notifier._filter import Rule as Rule
from fdproof.notifier._listener import Listener as Listener
from fdproof.notifier._listener import Notification as Notification
from fdproof.notifier._target import Target as Target
from fdproof.notifier._target import fork as fork
from fdproof.notifier._target import spawn as spawn

__all__ = ["Condition", "Filter", "Listener", "Notification", "Rule", "Target", "fork", "spawn"]

for _name in __all__:
    _thing = globals()[_name]
    if getattr(_thing, "__module__", None) != __name__:
        try:
            _thing.__module__ = __name__
        except (AttributeError, TypeError):
            pass  # compiled types keep the module they have
del _name, _thing
