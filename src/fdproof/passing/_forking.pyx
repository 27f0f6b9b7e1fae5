"""What a forked child closes at once.

In compiled code: whatever is raised in a callback of a fork is lost, a KeyboardInterrupt between two
bytecodes too.
"""

from fdproof._descriptor cimport Descriptor

__all__ = ["forget"]


def forget(dict kept not None, list place not None, lock not None):
    """Close the child's copies of what its parent keeps, and release the lock that the fork holds.

    Args:
        kept: emptied. Its values are pairs, the second of each a Descriptor.
        place: emptied. Descriptors.
        lock: released at the end.
    """
    cdef tuple entry
    for entry in kept.values():
        (<Descriptor>entry[1]).close()
    kept.clear()
    for sock in place:
        (<Descriptor>sock).close()
    place.clear()
    lock.release()
