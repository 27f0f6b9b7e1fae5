"""A Channel and a peer that is none: whatever comes, nothing of it stays, and nothing is believed."""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fdproof
from fdproof import Descriptor, StateError, passing
from fdproof.passing import Channel
from fdproof.passing._framing import HEADER, MAGIC
from tests.core.own_table import table


def header(count: int, length: int, magic: bytes = MAGIC) -> bytes:
    return HEADER.pack(magic, count, length)


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


@contextlib.contextmanager
def hostile(**limits: int) -> Iterator[tuple[socket.socket, Channel]]:
    """A peer's bare socket, and our channel."""
    near, far = socket.socketpair()
    with near, Channel(far, **limits) as channel:
        yield near, channel


def refused(channel: Channel) -> OSError:
    """The error with which a message is refused, after which nothing can be received and nothing is left."""
    before = table()
    with pytest.raises(OSError) as caught:  # noqa: PT011
        channel.receive(timeout=0)
    assert table() == before
    with pytest.raises(StateError, match=r"^nothing can be received any more, because"):
        channel.receive(timeout=0)
    return caught.value


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"GET / HTTP/1.0\r\n", r"its message begins with b'GET / HTTP/1.0\r\n'"),
        (header(0, 0, b"fdp\x02"), "its message begins with b'fdp"),
    ],
)
def test_another_protocol_is_refused(head: bytes, text: str) -> None:
    with hostile() as (peer, channel):
        peer.send(head)
        error = refused(channel)
        assert error.errno == errno.EPROTO
        assert text in str(error)


@pytest.mark.parametrize(
    ("count", "length"), [(0, 1001), (0, 2**64 - 1), (11, 0), (2**32 - 1, 2**64 - 1)]
)
def test_a_header_beyond_the_limits_is_refused(count: int, length: int) -> None:
    with hostile(max_bytes=1000, max_files=10) as (peer, channel):
        peer.send(header(count, length))
        error = refused(channel)
        assert error.errno == errno.EMSGSIZE
        assert f"{length} bytes and {count} descriptors" in str(error)
        assert "(max_bytes=1000, max_files=10)" in str(error)


def test_an_honest_message_beyond_the_limits_is_refused_as_such(file: Descriptor) -> None:
    near, far = socket.socketpair()
    with Channel(near) as peer, Channel(far, max_files=10) as channel:
        peer.send(b"", [file] * 200)
        error = refused(channel)
        assert error.errno == errno.EMSGSIZE
        assert "0 bytes and 200 descriptors" in str(error)


def test_nothing_is_allocated_for_a_promise() -> None:
    with hostile(max_bytes=2**63, max_files=2**31) as (peer, channel):
        peer.send(header(0, 2**62) + b"a little")
        with pytest.raises(TimeoutError):
            channel.receive(timeout=0)
        peer.close()
        assert isinstance(refused(channel), ConnectionResetError)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([(header(0, 1) + b"x", 1)], id="none announced"),
        pytest.param([(header(3, 1) + b"x", 2)], id="fewer than announced"),
        pytest.param([(header(3, 1) + b"x", 4)], id="more than announced"),
        pytest.param([(header(300, 0), 300 - 253)], id="the rest first"),
        pytest.param([(header(300, 0), 253), (b"\0", 46)], id="a rest too small"),
        pytest.param([(header(300, 0), 253), (b"\0", 48)], id="a rest too large"),
        pytest.param([(header(300, 0), 253), (b"\0", 253)], id="a rest far too large"),
        pytest.param([(header(300, 0), 253), (b"\0", 0)], id="no rest"),
        pytest.param([(header(0, 4), 0), (b"data", 1)], id="with the data"),
        pytest.param([(header(0, 4), 0), (b"data", 253)], id="many with the data"),
        pytest.param(
            [(bytes([byte]), 253) for byte in header(0, 0)], id="many with each byte of the header"
        ),
    ],
)
def test_descriptors_that_were_not_announced_are_closed(
    parts: list[tuple[bytes, int]], file: Descriptor
) -> None:
    with hostile(max_files=600) as (peer, channel):
        for data, count in parts:
            passing.send(peer, data, [file] * count)
        error = refused(channel)
        assert error.errno == errno.EPROTO
        assert "the peer does not speak as a Channel does" in str(error)


def test_no_more_descriptors_are_held_than_the_limit_and_the_kernels_rounding(
    file: Descriptor,
) -> None:
    with hostile(max_files=5) as (peer, channel):
        before = len(table())
        for byte in header(0, 0)[:-1]:
            passing.send(peer, bytes([byte]), [file] * 2)
            with contextlib.suppress(TimeoutError, OSError, StateError):
                channel.receive(timeout=0)
            assert len(table()) <= before + 5 + 15


def test_a_message_after_a_bad_one_is_not_believed() -> None:
    with hostile() as (peer, channel):
        peer.send(header(1, 0) + header(0, 5) + b"trick")
        refused(channel)


@pytest.mark.parametrize("length", range(HEADER.size + 3))
def test_a_stream_that_ends_anywhere_is_noticed(length: int) -> None:
    with hostile() as (peer, channel):
        peer.send((header(0, 3) + b"abc")[:length])
        peer.close()
        if length == 0:
            with pytest.raises(EOFError):
                channel.receive()
        else:
            assert isinstance(refused(channel), ConnectionResetError)


pieces = st.lists(
    st.tuples(
        st.one_of(
            st.binary(min_size=1, max_size=40),
            st.builds(
                header,
                st.one_of(st.integers(0, 6), st.integers(0, 2**32 - 1)),
                st.one_of(st.integers(0, 40), st.integers(0, 2**64 - 1)),
            ),
        ),
        st.one_of(st.just(0), st.integers(0, 6), st.just(253)),
    ),
    max_size=6,
)


@settings(max_examples=300)
@given(pieces)
def test_whatever_comes_is_a_message_or_closed(pieces: list[tuple[bytes, int]]) -> None:
    before = table()
    with fdproof.memfd("sent") as file, hostile(max_files=300) as (peer, channel):
        for data, count in pieces:
            passing.send(peer, data, [file] * count)
        peer.shutdown(socket.SHUT_WR)
        inode = os.fstat(file.fileno()).st_ino
        while True:
            try:
                with channel.receive(timeout=0) as message:
                    assert {os.fstat(one.fileno()).st_ino for one in message.files} <= {inode}
            except EOFError:
                break
            except OSError as error:
                assert error.errno in (errno.EPROTO, errno.EMSGSIZE, errno.ECONNRESET)  # noqa: PT017
                break
        during = {number for number in table() if number not in before}
        assert during <= {file.fileno(), peer.fileno(), channel.fileno()}
