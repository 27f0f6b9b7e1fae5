"""What was handed to this process: named descriptors, owned until somebody takes them."""

import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from fdproof._descriptor import Descriptor
from fdproof.handover._inherited import socket_kind

__all__ = ["Entry", "Handed"]


class Entry:
    """One descriptor that was handed over, described; its owner is the Handed.

    Attributes:
        name: several entries may have the same.
        family, type, protocol: of the socket, as ``socket.socket`` has them; None for what is no socket.
        listening: whether it is a socket that accepts connections, so that nobody needs to call
            ``listen`` again.
    """

    __slots__ = ("_owner", "family", "listening", "name", "protocol", "type")

    def __init__(self, name: str, owner: Descriptor) -> None:
        kind = socket_kind(owner)
        self._owner = owner
        self.name = name
        self.family = None if kind is None else kind[0]
        self.type = None if kind is None else kind[1]
        self.protocol = None if kind is None else kind[2]
        self.listening = kind is not None and kind[3]

    def __repr__(self) -> str:
        if self.family is None or self.type is None:
            return f"<{self.name!r}: no socket>"
        family, kind = (
            _spelt(socket.AddressFamily, self.family),
            _spelt(socket.SocketKind, self.type),
        )
        return f"<{self.name!r}: {family}, {kind}{', listening' if self.listening else ''}>"


class Handed:
    """Named descriptors that another process handed over; it owns those that were not taken.

    Leaving the ``with`` block closes them, close-on-exec all of them until then. Iterating gives the
    entries in the order in which they came.

    Args:
        names: one for each owner; several may be equal.
        owners: Descriptors that this object closes from now on.
    """

    def __init__(self, names: Sequence[str] = (), owners: Sequence[Descriptor] = ()) -> None:
        if len(names) != len(owners):
            raise ValueError(f"names: there are {len(names)} for {len(owners)} owners")
        self._entries = [Entry(*pair) for pair in zip(names, owners, strict=True)]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries))

    def take(self, which: str | Entry | None = None) -> Descriptor:
        """Take one descriptor.

        Args:
            which: the name of exactly one, or an entry; None where only one was handed over.

        Returns:
            Its owner, which the caller closes.

        Raises:
            LookupError: there is none of this name, or more than one.
        """
        entry = self._find(which)
        self._entries.remove(entry)
        return entry._owner

    def take_socket(self, which: str | Entry | None = None) -> socket.socket:
        """Take one descriptor as a ``socket.socket`` of its own family, type and protocol.

        Args:
            which: as for ``take``.

        Returns:
            The socket, which the caller closes.

        Raises:
            LookupError: as for ``take``.
            OSError: ENOTSOCK, it is no socket; it stays here.
        """
        entry = self._find(which)
        taken = entry._owner.into_socket()
        self._entries.remove(entry)
        return taken

    def take_sockets(
        self, name: str | None = None, *, listening: bool | None = None
    ) -> list[socket.socket]:
        """Take all sockets, or all of a name; what is no socket stays.

        Args:
            name: None for any.
            listening: True for those that accept connections only, False for the others.

        Returns:
            The sockets in the order in which they came, maybe none. The caller closes them.
        """
        return [
            self.take_socket(entry)
            for entry in self
            if entry.family is not None
            and name in (None, entry.name)
            and listening in (None, entry.listening)
        ]

    def close(self) -> None:
        """Close what was not taken; twice is quiet."""
        while self._entries:
            self._entries.pop()._owner.close()

    def _find(self, which: str | Entry | None) -> Entry:
        found = [one for one in self._entries if which is None or which in (one, one.name)]
        if len(found) == 1:
            return found[0]
        wanted = "descriptor" if which is None else f"descriptor named {which!r}"
        if isinstance(which, Entry):
            wanted = f"{which!r} any more"
        there = ", ".join(map(repr, self._entries)) or "none"
        if not found:
            raise LookupError(f"no {wanted} was handed over; there is: {there}")
        raise LookupError(
            f"more than one {wanted} was handed over; pass one of the entries: {there}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fdproof.handover.Handed {self._entries!r}>"


def _spelt(numbers: type[socket.AddressFamily] | type[socket.SocketKind], value: int) -> str:
    # A family that this Python does not know may be handed over all the same.
    return next((one.name for one in numbers if one == value), str(value))
