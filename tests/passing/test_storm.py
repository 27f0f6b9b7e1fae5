"""Any number of descriptors, any room, a table that is nearly full: each one is owned, or reported missing.

One process sends and receives, so it knows what was under way, how many numbers were free, and what
must have come of it.
"""

import os
import random
import resource
import socket
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest

import fdproof
from fdproof import Descriptor, TruncatedError, passing
from fdproof.passing import Message
from tests.core.child import in_child
from tests.core.own_table import lowest_free, table
from tests.kernel_features import available
from tests.passing.raw import KINDS, MOST_FILES, SO_PASSPIDFD, hung_up

# The full run is 1,000,000.
RECEIVES = int(os.environ.get("FDPROOF_RECEIVES", "100000"))
# Another storm each time; a failure says which it was.
SEED = int(os.environ.get("FDPROOF_SEED", "0")) or random.SystemRandom().getrandbits(32)

PIPES = 16


@dataclass
class Route:
    """A pair of sockets, and what is under way between them."""

    near: socket.socket
    far: socket.socket
    is_stream: bool
    tells_process: bool
    # Of each message what is left of its data, and its descriptors by the number of their pipe.
    pending: deque[tuple[int, list[int]]] = field(default_factory=deque)

    def next(self, size: int, peek: bool = False) -> tuple[int, list[int], bool]:
        """The bytes and descriptors that a receive of ``size`` bytes gets, and whether bytes are lost."""
        if not self.is_stream:
            length, pipes = self.pending[0]
            return min(size, length), pipes, length > size
        taken = 0
        for length, pipes in self.pending:
            taken += length
            # KERNEL: a peek goes on to the next descriptors, however few bytes it takes.
            if pipes or (taken >= size and not peek):
                return min(taken, size), pipes, False
        return min(taken, size), [], False

    def take(self, size: int) -> None:
        """Forget what such a receive takes out of the socket."""
        if not self.is_stream:
            self.pending.popleft()
            return
        size, _, _ = self.next(size)
        while size:
            length, _ = self.pending.popleft()
            if length > size:
                self.pending.appendleft((length - size, []))
            size -= min(length, size)


class Storm:
    """Sends and receives at random; knows each number of its table."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.tally: Counter[str] = Counter()
        self.routes = [self._route(kind, option) for kind in KINDS for option in self._options()]
        self.pipes = [fdproof.pipe() for _ in range(PIPES)]
        self.inodes = [os.fstat(pipe[1].fileno()).st_ino for pipe in self.pipes]
        # What the process has open already, without a hole below: the rest of the table is the storm's.
        self.fillers: list[Descriptor] = []
        while lowest_free() < max(table()):
            self.fillers.append(fdproof.eventfd())
        self.base = lowest_free()
        self.held: list[Message] = []
        self.numbers: set[int] = set()
        self.soft, self.hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limit = self.base + 64

    @staticmethod
    def _options() -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = [(), (socket.SO_PASSCRED,)]
        if available("SO_PASSPIDFD"):
            found += [(SO_PASSPIDFD,), (socket.SO_PASSCRED, SO_PASSPIDFD)]
        return found

    @staticmethod
    def _route(kind: str, options: tuple[int, ...]) -> Route:
        near, far = socket.socketpair(socket.AF_UNIX, KINDS[kind])
        for option in options:
            far.setsockopt(socket.SOL_SOCKET, option, 1)
        return Route(near, far, kind == "stream", SO_PASSPIDFD in options)

    @property
    def free(self) -> int:
        """How many numbers the table has left."""
        used = sum(number < self.limit for number in self.numbers)
        return max(0, self.limit - self.base - used)

    def _some(self) -> int:
        """A number of descriptors: few as a rule, all that a message carries now and then."""
        return min(MOST_FILES, int(self.chance.paretovariate(0.9)) - 1)

    def send(self, route: Route) -> None:
        count = self._some()
        size = self.chance.randint(1 if route.is_stream else 0, 64)
        pipes = [self.chance.randrange(PIPES) for _ in range(count)]
        passing.send(route.near, bytes(size), [self.pipes[which][1] for which in pipes])
        route.pending.append((size, pipes))
        self.tally["sent"] += count

    def receive(self, route: Route) -> None:
        size = self.chance.randint(1, 80)
        peek = self.chance.random() < 0.05
        data, pipes, cut = route.next(size, peek)
        asked = self.chance.choice([len(pipes), len(pipes), self._some(), MOST_FILES])
        free = self.free
        causes = set()
        if len(pipes) > asked:
            causes.add("room")
        if len(pipes) + route.tells_process > free:
            causes.add("limit")
        if cut:
            causes.add("data")
        try:
            message, error = passing.receive(route.far, size, asked, peek=peek), None
        except TruncatedError as truncated:
            message, error = truncated.message, truncated
        if error:
            assert error.reason in causes, (error.reason, causes, str(error))
            assert error.came == len(message.files) <= min(len(pipes), free)
            assert error.came >= min(len(pipes), free, asked)
            assert error.asked == asked
            self.tally[error.reason] += 1
        else:
            assert not causes, causes
            assert len(message.files) == len(pipes)
            assert (message.process is not None) == route.tells_process
        assert len(message.data) == data
        for which, file in zip(pipes, message.files, strict=False):
            assert os.fstat(file.fileno()).st_ino == self.inodes[which]
        if peek:
            self.tally["peeked"] += 1
        else:
            route.take(size)
            self.tally["owned"] += len(message.files)
            self.tally["missing"] += len(pipes) - len(message.files)
        self._hold(message)

    def _owned(self, message: Message) -> set[int]:
        owned = {file.fileno() for file in message.files}
        return owned | {message.process.fileno()} if message.process else owned

    def _hold(self, message: Message) -> None:
        owned = self._owned(message)
        assert not owned & self.numbers
        self.numbers |= owned
        self.held.append(message)
        # More than a few at a time, and little else would be seen than a full table.
        while self.held and self.chance.random() < len(self.held) / 8:
            self.drop(self.chance.randrange(len(self.held)))

    def drop(self, index: int) -> None:
        message = self.held.pop(index)
        self.numbers -= self._owned(message)
        message.close()

    def rage(self, receives: int) -> None:
        for done in range(receives):
            route = self.chance.choice(self.routes)
            if done % 100 == 0:
                self.limit = self.base + self.chance.choice([0, 1, 8, 32, 64, 300, 600])
            if not route.pending:
                for _ in range(self.chance.randint(1, 4)):
                    self.send(route)
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit, self.hard))
            self.receive(route)
            # An ordinary user's limit is also one of what is under way.
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.soft, self.hard))

    def end(self) -> None:
        """Close everything; nobody holds anything any more."""
        while self.held:
            self.drop(0)
        for route in self.routes:
            self.tally["unread"] += sum(len(pipes) for _, pipes in route.pending)
            route.near.close()
            route.far.close()
        for reader, writer in self.pipes:
            writer.close()
            assert hung_up(reader.fileno())
            reader.close()
        for filler in self.fillers:
            filler.close()


@pytest.mark.timeout(3600)
def test_every_descriptor_that_was_sent_is_owned_or_reported() -> None:
    def check() -> None:
        before = table()
        storm = Storm(random.Random(SEED))
        try:
            storm.rage(RECEIVES)
        except BaseException as error:
            error.add_note(f"FDPROOF_SEED={SEED} makes it happen again")
            raise
        storm.end()
        assert table() == before

        tally = storm.tally
        assert tally["sent"] == tally["owned"] + tally["missing"] + tally["unread"]
        # It did rage: each way to lose something was met.
        assert min(tally[name] for name in ("owned", "missing", "room", "limit", "data")) > 0, tally

    in_child(check)
