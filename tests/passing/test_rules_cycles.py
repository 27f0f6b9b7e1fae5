"""Sockets in flight inside each other: the kernel collects those that nobody can reach any more.

Each socket of a graph has one more descriptor in its queue: the writing end of a pipe. When the socket is
collected, the pipe hangs up, and no other process on the machine has a say in it.
"""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

import pytest

import fdproof
from fdproof import Descriptor, passing
from tests.passing.raw import hung_up, received, rights, send
from tests.process.children import until

# An edge (a, b): socket a is under way in the queue of socket b.
GRAPHS: dict[str, list[tuple[int, int]]] = {
    "itself": [(0, 0)],
    "two": [(0, 1), (1, 0)],
    "triangle": [(0, 1), (1, 2), (2, 0)],
    "two triangles with a common side": [(0, 1), (1, 2), (2, 0), (1, 3), (3, 2)],
    "one cycle that leads into another": [(0, 1), (1, 0), (1, 2), (2, 3), (3, 2)],
    "a way back out of a cycle": [
        *[(0, 1), (0, 4), (1, 2), (2, 3), (3, 1)],
        *[(4, 5), (5, 6), (6, 4), (3, 7), (7, 8), (8, 7)],
    ],
    "each in each": [(one, other) for one in range(4) for other in range(4)],
    "itself ten times": [(0, 0)] * 10,
}

each_graph = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
each_kind = pytest.mark.parametrize("kind", ["stream", "datagram", "seqpacket", "listener"])


class Scene:
    """Sockets that have each other in their queues, and the pipes that tell when they are gone."""

    def __init__(self, stack: contextlib.ExitStack, kind: str, edges: Sequence[tuple[int, int]]):
        self.receivers: list[socket.socket] = []
        self.readers: list[Descriptor] = []
        senders = []
        for _ in range(1 + max(max(edge) for edge in edges)):
            near, far = _connected(kind)
            stack.enter_context(near)
            self.receivers.append(stack.enter_context(far))
            senders.append(near)
        for sender in senders:
            reader, writer = fdproof.pipe()
            self.readers.append(stack.enter_context(reader))
            with writer:
                send(sender, b"x", rights(writer.fileno()))
        for carried, carrier in edges:
            send(senders[carrier], b"x", rights(self.receivers[carried].fileno()))
        for sender in senders:
            sender.close()

    @property
    def gone(self) -> list[bool]:
        """For each socket, whether it was collected."""
        return [hung_up(reader.fileno()) for reader in self.readers]

    def collected(self, expected: Sequence[bool]) -> bool:
        """Whether just the expected ones are gone. The kernel looks when a Unix socket is closed."""
        for each in socket.socketpair():
            each.close()
        return self.gone == list(expected)


def _connected(kind: str) -> tuple[socket.socket, socket.socket]:
    """A sender and the socket in whose queue its messages lie: for a listener, before any accept."""
    if kind != "listener":
        near, far = fdproof.socketpair(
            type={
                "stream": socket.SOCK_STREAM,
                "datagram": socket.SOCK_DGRAM,
                "seqpacket": socket.SOCK_SEQPACKET,
            }[kind]
        )
        return near.into_socket(), far.into_socket()
    listener = socket.socket(socket.AF_UNIX)
    # The kernel chooses a name.
    listener.bind("")
    listener.listen()
    client = socket.socket(socket.AF_UNIX)
    client.connect(listener.getsockname())
    return client, listener


@contextlib.contextmanager
def scene(kind: str, edges: Sequence[tuple[int, int]]) -> Iterator[Scene]:
    with contextlib.ExitStack() as stack:
        yield Scene(stack, kind, edges)


@each_graph
@each_kind
def test_what_nobody_can_reach_is_collected(kind: str, graph: list[tuple[int, int]]) -> None:
    with scene(kind, graph) as made:
        assert not any(made.gone)
        for sock in made.receivers:
            sock.close()
        until(lambda: made.collected([True] * len(made.readers)))


@each_graph
@each_kind
def test_nothing_is_collected_while_one_can_be_reached(
    kind: str, graph: list[tuple[int, int]]
) -> None:
    """Whatever is in flight in the reachable one, and in flight in that, and so on, stays."""
    held = 0
    stays = {held}
    while more := {one for one, other in graph if other in stays} - stays:
        stays |= more
    with scene(kind, graph) as made:
        for index, sock in enumerate(made.receivers):
            if index != held:
                sock.close()
        expected = [index not in stays for index in range(len(made.readers))]
        until(lambda: made.collected(expected))
        made.receivers[held].close()
        until(lambda: made.collected([True] * len(expected)))


def test_a_socket_that_was_received_out_of_its_own_queue_lives_on() -> None:
    with scene("datagram", [(0, 0)]) as made:
        with received(made.receivers[0]) as first:
            assert len(first.numbers) == 1
        with passing.receive(made.receivers[0], 1, 1) as second:
            made.receivers[0].close()
            made.collected([False])
            with socket.socket(fileno=os.dup(second.files[0].fileno())) as again:
                assert again.type == socket.SOCK_DGRAM


@pytest.mark.parametrize("kind", ["stream", "datagram", "seqpacket"])
def test_a_socket_that_carries_no_socket_lets_go_of_files_by_itself(kind: str) -> None:
    near, far = _connected(kind)
    with near, far, fdproof.pipe() as (reader, writer):
        passing.send(near, b"x", [writer])
        writer.close()
        far.close()
        assert hung_up(reader.fileno())
