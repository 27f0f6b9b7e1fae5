"""Peers that send what they like: whatever the kernel lets through is owned, and nothing else happens."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fdproof
from fdproof import TruncatedError, passing
from fdproof.passing import Credentials, Message
from tests.core.own_table import table
from tests.kernel_features import available
from tests.passing.raw import KINDS, MOST_FILES, SCM_PIDFD, SO_PASSPIDFD, empty, refused
from tests.passing.unchecked import send_control

# What the kernel says of control data that it does not like.
REFUSALS = {"", "EINVAL", "EBADF", "EPERM", "ESRCH", "ENOBUFS", "ETOOMANYREFS", "EAGAIN"}

# 5,000 is a thorough run.
EXAMPLES = int(os.environ.get("FDPROOF_FUZZ", "150"))

FILES = 4


class Control(NamedTuple):
    """One control message before its numbers are known: those of files are written as their index."""

    level: int
    kind: int
    numbers: list[int | None]
    repeated: int
    tail: bytes
    claimed: int | None

    def packed(self, files: list[int]) -> bytes:
        body = b"".join(
            struct.pack("i", files[number % FILES] if 0 <= number < 256 else number)
            if number is not None
            else struct.pack("f", 1.5)
            for number in self.numbers
        )
        body = body * self.repeated + self.tail
        length = socket.CMSG_LEN(len(body)) if self.claimed is None else self.claimed
        # struct cmsghdr, and the padding up to the next one.
        header = struct.pack("Nii", length, self.level, self.kind)
        return header + body + bytes(-len(body) % 8)


ints = st.integers(-(2**31), 2**31 - 1)
levels = st.one_of(st.just(socket.SOL_SOCKET), st.sampled_from([0, 1, 6, 41, 255]), ints)
kinds = st.one_of(
    st.sampled_from([socket.SCM_RIGHTS] * 3 + [socket.SCM_CREDENTIALS, 3, SCM_PIDFD]), ints
)
# Mostly files; else a number that is not open, one that is none, a float.
numbers = st.one_of(
    st.integers(0, FILES - 1),
    st.integers(0, FILES - 1),
    st.none(),
    st.sampled_from([-1, 99_999]),
    ints,
)
lists = st.one_of(st.lists(st.integers(0, FILES - 1), max_size=8), st.lists(numbers, max_size=8))
controls = st.builds(
    Control,
    levels,
    kinds,
    lists,
    st.one_of(st.just(1), st.sampled_from([0, 30, 127, 254, 5_000])),
    st.one_of(st.just(b""), st.binary(max_size=7)),
    st.one_of(st.none(), st.none(), st.integers(0, 64), st.integers(0, 2**64 - 1)),
)
well_formed = st.builds(
    Control,
    st.just(socket.SOL_SOCKET),
    st.just(socket.SCM_RIGHTS),
    st.just([0]),
    st.integers(0, MOST_FILES),
    st.just(b""),
    st.none(),
)


class Sent(NamedTuple):
    """One message of a hostile peer."""

    data: bytes
    controls: list[Control] | bytes

    def packed(self, files: list[int]) -> bytes:
        if isinstance(self.controls, bytes):
            return self.controls
        return b"".join(control.packed(files) for control in self.controls)


messages = st.builds(
    Sent,
    st.binary(max_size=40),
    st.one_of(
        st.lists(well_formed, min_size=1, max_size=2),
        st.lists(controls, max_size=6),
        st.builds(lambda control, count: [control] * count, controls, st.integers(20, 60)),
        st.binary(max_size=200),
    ),
)


@contextlib.contextmanager
def hostile(
    kind: str, options: list[int]
) -> Iterator[tuple[socket.socket, socket.socket, list[int]]]:
    """The peer's end, ours, and the files that the peer has."""
    with contextlib.ExitStack() as stack:
        near, far = map(stack.enter_context, socket.socketpair(socket.AF_UNIX, KINDS[kind]))
        for option in options:
            far.setsockopt(socket.SOL_SOCKET, option, 1)
        files = [stack.enter_context(fdproof.memfd("hostile")).fileno() for _ in range(FILES)]
        yield near, far, files


def checked(message: Message, inodes: set[int]) -> None:
    """Look at each part of a message that got through: it is of its documented type, and usable."""
    for file in message.files:
        assert os.fstat(file.fileno()).st_ino in inodes
        assert not file.inheritable
    if message.credentials is not None:
        assert type(message.credentials) is Credentials
    if message.process is not None:
        assert message.process.pid == (message.credentials or message.process).pid
        assert not message.process.owned


def received(sock: socket.socket, size: int, count: int) -> Message:
    """What got through, whole or not."""
    try:
        return passing.receive(sock, size, count, flags=socket.MSG_DONTWAIT)
    except TruncatedError as error:
        # The table has room, and nobody forbids anything.
        if error.reason in ("limit", "refused"):
            raise
        message: Message = error.message
        return message


options = st.lists(
    st.sampled_from(
        [socket.SO_PASSCRED, SO_PASSPIDFD] if available("SO_PASSPIDFD") else [socket.SO_PASSCRED]
    ),
    unique=True,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=EXAMPLES)
@given(
    sent=st.lists(messages, min_size=1, max_size=8),
    options=options,
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=3),
    asked=st.lists(st.integers(0, MOST_FILES), min_size=1, max_size=3),
)
def test_whatever_a_peer_sends_is_owned_or_refused(
    kind: str, sent: list[Sent], options: list[int], sizes: list[int], asked: list[int]
) -> None:
    before = table()
    with hostile(kind, options) as (near, far, files):
        inodes = {os.fstat(number).st_ino for number in files}
        own = table()
        sends = [
            refused(partial(send_control, near, message.data, message.packed(files)))
            for message in sent
        ]
        assert set(sends) <= REFUSALS
        assert table() == own

        # A stream ends with the peer; in packets an empty one looks like an end.
        near.close()
        most = sum(len(message.data) + 1 for message in sent)
        for round in range(most if kind == "stream" else sends.count("")):
            size, count = sizes[round % len(sizes)], asked[round % len(asked)]
            with received(far, size, count) as message:
                checked(message, inodes)
        assert empty(far) if kind == "datagram" else not passing.receive(far, 1).data
        assert len(table()) == len(own) - 1
    assert table() == before
