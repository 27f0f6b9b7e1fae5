"""Waiting in send and receive: timeouts as Python's sockets have them, signals, other threads."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import fdproof
from fdproof import Descriptor, passing
from tests.core.own_table import table
from tests.passing.raw import empty, pair, received


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with pair() as (near, far):
        yield near, far


# Sending.


def filled(sock: socket.socket) -> int:
    """Fill a socket's buffer; how many bytes that took."""
    sent = 0
    try:
        while True:
            sent += sock.send(b"x" * 1000, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return sent


def drained(sock: socket.socket, count: int) -> None:
    """Read that much."""
    while count:
        count -= len(sock.recv(count))


@pytest.mark.parametrize("size", [1, 100_000], ids=["short", "long"])
def test_a_full_buffer_is_eagain_where_nobody_waits(
    size: int, ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    filled(ends[0])
    before = table()

    with pytest.raises(BlockingIOError):
        passing.send(ends[0], b"x" * size, [file], flags=socket.MSG_DONTWAIT)
    ends[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        passing.send(ends[0], b"x" * size, [file])
    with pytest.raises(BlockingIOError):
        passing.send(ends[0].fileno(), b"x" * size, [file])

    assert table() == before


@pytest.mark.parametrize("size", [1, 100_000], ids=["short", "long"])
def test_the_timeout_of_a_python_socket_is_kept_by_send(
    size: int, ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    filled(ends[0])
    ends[0].settimeout(0.01)

    with pytest.raises(TimeoutError, match="timed out"):
        passing.send(ends[0], b"x" * size, [file])


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("size", [1, 2048, 2049])
def test_send_waits_for_room_and_other_threads_run(
    size: int,
    timeout: float | None,
    ends: tuple[socket.socket, socket.socket],
    file: Descriptor,
) -> None:
    count = filled(ends[0])
    ends[0].settimeout(timeout)
    reader = threading.Timer(0.02, drained, [ends[1], count])
    reader.start()

    assert passing.send(ends[0], b"y" * size, [file]) == size

    reader.join()
    with received(ends[1], size=size) as message:
        assert message.data == b"y" * size
        assert len(message.numbers) == 1


@pytest.mark.parametrize("small", [False, True], ids=["buffer", "smallest buffer"])
def test_a_short_message_goes_whole_or_not_at_all(small: bool, file: Descriptor) -> None:
    with pair() as (near, far):
        if small:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        near.setblocking(False)
        sent = 0
        try:
            while True:
                assert passing.send(near, b"z" * 2048, [file]) == 2048
                sent += 1
        except BlockingIOError:
            pass
        assert sent
        for _ in range(sent):
            with received(far, size=2048) as message:
                assert len(message.data) == 2048
                assert len(message.numbers) == 1


def test_where_it_waits_a_long_message_goes_whole(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    reader = threading.Timer(0.02, drained, [ends[1], 500_000])
    reader.start()

    assert passing.send(ends[0], bytes(500_000), [file]) == 500_000
    reader.join()


def test_the_buffer_is_free_again_whatever_became_of_it(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    data = bytearray(b"data")
    passing.send(ends[0], data, [file])
    for bad in ({"files": [999_999]}, {"address": "a" * 200}):
        with pytest.raises((OSError, ValueError)):
            passing.send(ends[0], data, **bad)
    # An exported buffer cannot change its size.
    data.clear()
    with pytest.raises(ValueError, match="at least one byte"):
        passing.send(ends[0], data, [file])
    data.extend(b"x")


def test_a_long_message_may_go_in_part_and_the_files_with_its_beginning(file: Descriptor) -> None:
    with pair() as (near, far):
        near.setblocking(False)
        data = bytes(1_000_000)
        sent = passing.send(near, data, [file])
        assert 0 < sent < len(data)
        with received(far, size=1) as message:
            assert len(message.numbers) == 1


def on_alarm(handler: Callable[[int, Any], None]) -> Callable[[], None]:
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.02)

    def back() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    return back


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_signal_runs_its_handler_and_the_send_goes_on(
    timeout: float | None, ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    count = filled(ends[0])
    ends[0].settimeout(timeout)
    back = on_alarm(lambda *_: drained(ends[1], count))
    try:
        assert passing.send(ends[0], b"y", [file]) == 1
    finally:
        back()
    with received(ends[1]) as message:
        assert message.data == b"y"
        assert len(message.numbers) == 1


class InterruptionError(Exception):
    pass


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_handler_that_raises_ends_the_send_and_nothing_is_sent(
    timeout: float | None, ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    def interrupt(*_: object) -> None:
        raise InterruptionError

    count = filled(ends[0])
    ends[0].settimeout(timeout)
    back = on_alarm(interrupt)
    try:
        with pytest.raises(InterruptionError):
            passing.send(ends[0], b"y", [file])
    finally:
        back()
    drained(ends[1], count)
    assert empty(ends[1])


# Receiving.


@pytest.mark.parametrize("size", [1, 100_000], ids=["short", "long"])
def test_nothing_to_receive_is_eagain_where_nobody_waits(
    size: int, ends: tuple[socket.socket, socket.socket]
) -> None:
    with pytest.raises(BlockingIOError):
        passing.receive(ends[1], size, 3, flags=socket.MSG_DONTWAIT)
    ends[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        passing.receive(ends[1], size, 3)
    with pytest.raises(BlockingIOError):
        passing.receive(ends[1].fileno(), size, 3)


@pytest.mark.parametrize("size", [1, 100_000], ids=["short", "long"])
def test_the_timeout_of_a_python_socket_is_kept_by_receive(
    size: int, ends: tuple[socket.socket, socket.socket]
) -> None:
    ends[1].settimeout(0.01)

    with pytest.raises(TimeoutError, match="timed out"):
        passing.receive(ends[1], size, 3)


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("size", [1, 4096, 4097])
def test_receive_waits_for_a_message_and_other_threads_run(
    size: int,
    timeout: float | None,
    ends: tuple[socket.socket, socket.socket],
    file: Descriptor,
) -> None:
    ends[1].settimeout(timeout)
    sender = threading.Timer(0.02, passing.send, [ends[0], b"x", [file]])
    sender.start()

    with passing.receive(ends[1], size, 1) as message:
        assert len(message.files) == 1
    sender.join()


@pytest.mark.parametrize("timeout", [None, 60.0])
@pytest.mark.parametrize("raises", [True, False])
def test_a_signal_runs_its_handler_which_may_receive_as_well(
    raises: bool, timeout: float | None, ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    inner: list[int] = []

    def handle(*_: object) -> None:
        with pair() as (near, far):
            passing.send(near, b"inner", [file, file])
            with passing.receive(far, 10, 2) as message:
                inner.append(len(message.files))
        if raises:
            raise InterruptionError
        passing.send(ends[0], b"outer", [file])

    ends[1].settimeout(timeout)
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        if raises:
            with pytest.raises(InterruptionError):
                passing.receive(ends[1], 10, 1)
        else:
            with passing.receive(ends[1], 10, 1) as message:
                assert (message.data, len(message.files)) == (b"outer", 1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert inner == [2]
