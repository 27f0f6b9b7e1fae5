"""Files in flight: those that travel in messages between sockets, and the cycles that they make.

A message holds a reference to every file that it carries, so a socket sent into its own queue
keeps itself alive for ever. Linux finds such cycles; this is the same search.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fdproof.model._messages import Message
    from fdproof.model._unix import UnixSocket

__all__ = ["InFlight"]


class InFlight:
    """What one kernel knows of files in flight: how many per user, and which socket waits in which queue."""

    def __init__(self) -> None:
        self.by_user: defaultdict[int, int] = defaultdict(int)
        # OWNERSHIP: none; the message holds the files, its receiver's queue holds the message.
        self._carrying: dict[Message, UnixSocket] = {}
        self._copies: Counter[UnixSocket] = Counter()
        # INVARIANT: without it there is no cycle, so that nobody need look for one.
        self._may_have_cycles = False
        self._collecting = False

    def depart(self, message: "Message", receiver: "UnixSocket") -> None:
        """Count the files of a message that goes into the receiver's queue."""
        self.by_user[message.user] += len(message.files)
        self._carrying[message] = receiver
        self._copies.update(message.sockets)
        # KERNEL: what closes a cycle goes to a socket that is in flight itself.
        if message.sockets and self._copies[receiver]:
            self._may_have_cycles = True

    def carries(self, socket: "UnixSocket") -> bool:
        """Say whether the socket is in flight."""
        return self._copies[socket] > 0

    def arrive(self, message: "Message") -> None:
        """Stop counting the files of a message: received, or dropped."""
        if self._carrying.pop(message, None) is not None:
            self.by_user[message.user] -= len(message.files)
            for socket in message.sockets:
                self._copies[socket] -= 1
                if not self._copies[socket]:
                    del self._copies[socket]

    def collect(self) -> None:
        """Drop the queues of all sockets that only each other's messages keep alive.

        Linux does so in the background after the last close of any AF_UNIX socket. The model does
        it at once, at the same occasion.
        """
        if self._collecting or not self._may_have_cycles:
            return  # while collecting: what is dropped below closes sockets, and the loop comes again
        self._collecting = True
        try:
            while dead := self._dead():
                for message in [message for socket in dead for message in socket.empty()]:
                    message.drop()
        finally:
            self._collecting = False

    def _dead(self) -> list["UnixSocket"]:
        """Return the sockets in flight that no table can reach any more."""
        edges: dict[UnixSocket, list[UnixSocket]] = {}
        for message, receiver in self._carrying.items():
            for socket in message.sockets:
                edges.setdefault(socket, []).append(receiver)
        dead: list[UnixSocket] = []
        self._may_have_cycles = False
        for component in components(edges):
            members = set(component)
            # KERNEL: a reference that is not a message's is somebody who can still receive.
            if all(
                socket.references == len(edges[socket]) and members.issuperset(edges[socket])
                for socket in component
            ):
                dead += component
            elif len(component) > 1 or component[0] in edges[component[0]]:
                self._may_have_cycles = True
        return dead


def components(edges: "dict[UnixSocket, list[UnixSocket]]") -> "Iterator[Sequence[UnixSocket]]":
    """Yield the strongly connected components of the graph (Tarjan's algorithm, without recursion).

    Args:
        edges: for each vertex its successors; those that are no vertex are left out.
    """
    index: dict[UnixSocket, int] = {}
    lowest: dict[UnixSocket, int] = {}
    stack: list[UnixSocket] = []
    for root in edges:
        if root in index:
            continue
        path: list[tuple[UnixSocket, Iterator[UnixSocket]]] = [(root, iter(edges[root]))]
        index[root] = lowest[root] = len(index)
        stack.append(root)
        while path:
            vertex, successors = path[-1]
            for successor in successors:
                if successor not in edges:
                    continue
                if successor not in index:
                    index[successor] = lowest[successor] = len(index)
                    stack.append(successor)
                    path.append((successor, iter(edges[successor])))
                    break
                lowest[vertex] = min(lowest[vertex], lowest[successor])
            else:
                path.pop()
                if path:
                    above = path[-1][0]
                    lowest[above] = min(lowest[above], lowest[vertex])
                if lowest[vertex] == index[vertex]:
                    place = stack.index(vertex)
                    component = stack[place:]
                    del stack[place:]
                    for member in component:
                        # INVARIANT: a vertex of a finished component draws nobody into it.
                        lowest[member] = len(edges)
                    yield component
