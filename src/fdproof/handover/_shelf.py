"""Shelf: what a store keeps, for whom, under which name, and how much of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from fdproof._descriptor import Descriptor
from fdproof._errors import UnsupportedError

__all__ = ["Kept", "RefusedError", "Shelf"]


class RefusedError(Exception):
    """A message that the store does not act on, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A descriptor in a store, which owns it.

    Attributes:
        name: several of a client may have the same.
        uid: the user whose process has sent it.
        file: the descriptor.
        poll: whether the store forgets it when it hangs up.
    """

    name: str
    uid: int
    file: Descriptor
    poll: bool


class Shelf:
    """The descriptors of all clients, in the order in which they came.

    Args:
        per_client: the most that one of them may have.
        total: the most that all of them may have.
    """

    def __init__(self, per_client: int, total: int) -> None:
        self._per_client = per_client
        self._total = total
        self._of: dict[int, list[Kept]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def of(self, uid: int | None = None) -> tuple[Kept, ...]:
        """Return what is kept for a client, or for all."""
        if uid is not None:
            return tuple(self._of.get(uid, ()))
        return tuple(kept for one in self._of.values() for kept in one)

    def add(self, uid: int, name: str, files: Sequence[Descriptor], *, poll: bool) -> list[Kept]:
        """Keep descriptors: all of them or none.

        Args:
            uid: the client.
            name: of each.
            files: what is kept owns nothing any more when this returns; what the client has stored
                already is not kept twice, and stays.
            poll: as in Kept.

        Raises:
            RefusedError: there is no room for so many.
        """
        there = self._of.get(uid, [])
        twins: dict[tuple[int, int], list[Descriptor]] = {}
        for kept in there:
            twins.setdefault(_inode(kept.file), []).append(kept.file)
        new = []
        for file in files:
            alike = twins.setdefault(_inode(file), [])
            if not any(_same_file(file, one) for one in alike):
                alike.append(file)
                new.append(file)
        if len(there) + len(new) > self._per_client:
            raise RefusedError(
                f"no room for {len(new)}: {len(there)} of {self._per_client} for each client are taken"
            )
        if len(self) + len(new) > self._total:
            raise RefusedError(
                f"no room for {len(new)}: {len(self)} of {self._total} for all are taken"
            )
        added = [Kept(name, uid, Descriptor(file), poll) for file in new]
        self._of.setdefault(uid, []).extend(added)
        return added

    def named(self, uid: int, name: str) -> list[Kept]:
        """Return what a client has stored under a name."""
        return [kept for kept in self._of.get(uid, ()) if kept.name == name]

    def drop(self, kept: Kept) -> None:
        """Forget a descriptor and close it."""
        there = self._of[kept.uid]
        there.remove(kept)
        if not there:
            del self._of[kept.uid]
        kept.file.close()


def _inode(file: Descriptor) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino


def _same_file(one: Descriptor, other: Descriptor) -> bool:
    try:
        return one.same_file(other)
    except UnsupportedError:
        # Stored twice, then, which costs a slot and nothing else.
        return False
