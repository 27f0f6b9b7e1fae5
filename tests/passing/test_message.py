"""Message: what a receive brought has one owner each, and the message closes what nobody took."""

import copy
import errno
import os
import pickle
import socket
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

import fdproof
from fdproof import Descriptor, passing
from fdproof.passing import Credentials, Message
from fdproof.process import Process
from tests.passing.raw import pair


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


def received(count: int, room: int | None = None) -> Message:
    with pair() as (near, far), fdproof.memfd("x") as file:
        passing.send(near, b"data", [file] * count)
        return passing.receive(far, 10, count if room is None else room)


def test_a_message_closes_what_nobody_took() -> None:
    with received(3) as message:
        first, second, third = message.files
        kept = first.into_file("r")
        number = second.detach()
    assert third.closed
    assert not kept.closed
    assert kept.read() == ""
    kept.close()
    os.close(number)
    message.close()


def test_a_message_that_is_dropped_warns_for_each_descriptor() -> None:
    message = received(2)
    numbers = [one.fileno() for one in message.files]

    with pytest.warns(ResourceWarning) as warned:
        del message

    assert sorted(str(one.message) for one in warned) == sorted(
        f"unclosed descriptor {number}" for number in numbers
    )


def many() -> Message:
    return received(1, room=200)


def one() -> Message:
    return received(1)


def test_the_warning_of_a_descriptor_names_the_call_that_received_it() -> None:
    """Though its owner was made by an earlier call, which had asked for more than came."""
    tracemalloc.start(10)
    try:
        with many(), one() as message:
            trace = tracemalloc.get_object_traceback(message.files[0])
    finally:
        tracemalloc.stop()
    assert trace is not None
    lines = {frame.lineno for frame in trace if frame.filename == __file__}
    assert one.__code__.co_firstlineno + 1 in lines
    assert many.__code__.co_firstlineno + 1 not in lines


def test_closing_goes_on_after_an_error_and_raises_the_first() -> None:
    message = received(3)
    numbers = [one.fileno() for one in message.files]
    os.close(numbers[0])
    os.close(numbers[1])

    with pytest.raises(OSError, match=rf"descriptor {numbers[0]} was not open any more") as refused:
        message.close()

    assert refused.value.errno == errno.EBADF
    assert all(one.closed for one in message.files)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(numbers[2])
    message.close()


@pytest.mark.parametrize("count", [255, 256, 257, 600])
def test_a_message_of_any_number_of_files_closes_them_all(count: int, file: Descriptor) -> None:
    files = [file.duplicate() for _ in range(count)]
    with Message(b"", files):
        pass
    assert all(one.closed for one in files)


def test_a_message_can_be_made_of_its_parts(file: Descriptor) -> None:
    process = Process.current()
    own = file.duplicate()
    made = Message(
        b"data",
        [own],
        credentials=Credentials(1, 2, 3),
        process=process,
        address="where",
        flags=socket.MSG_EOR,
    )

    assert (made.data, made.files, made.address, made.flags) == (
        b"data",
        (own,),
        "where",
        socket.MSG_EOR,
    )
    assert repr(made) == (
        "<fdproof.passing.Message 4 bytes, 1 files, credentials=Credentials(pid=1, uid=2, gid=3), "
        f"process={process!r}, address='where'>"
    )
    with made:
        pass
    assert own.closed
    assert process.closed
    assert (Message().data, Message().files) == (b"", ())


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Message("text"), "bytes"),  # type: ignore[arg-type]
        (
            lambda: Message(b"", [0]),  # type: ignore[list-item]
            r"files\[0\]: takes a Descriptor, which owns its number, not 0",
        ),
        (lambda: Message(process=1), "process: takes a Process, not 1"),  # type: ignore[arg-type]
    ],
)
def test_a_message_owns_owners_only(make: Callable[[], Message], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_message_cannot_be_copied(duplicate: Callable[[Message], object]) -> None:
    with received(0) as message, pytest.raises(TypeError, match="owns descriptors"):
        duplicate(message)


def test_a_message_is_as_it_came() -> None:
    with received(1) as message:
        for name in ("data", "files", "credentials", "process", "address", "flags"):
            with pytest.raises(AttributeError):
                setattr(message, name, None)
