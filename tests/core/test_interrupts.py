"""Ctrl-C at every bytecode boundary leaves no descriptor behind; the same without fdproof does."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator

import pytest

import fdproof
from fdproof import Headroom
from tests.core.boundaries import sweep

# An owner that an interrupt drops warns and closes: here that is the right end.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

NULL = "/dev/null"


def with_open() -> None:
    with fdproof.open(NULL) as owner:
        owner.fileno()


def assigned_open() -> None:
    owner = fdproof.open(NULL)
    try:
        owner.fileno()
    finally:
        owner.close()


def nested_opens() -> None:
    with fdproof.open(NULL) as first, fdproof.open(NULL) as second, first.duplicate() as third:
        assert first.fileno() < second.fileno() < third.fileno()


def exit_stack() -> None:
    with contextlib.ExitStack() as stack:
        owners = [stack.enter_context(fdproof.open(NULL)) for _ in range(3)]
        owners[0].fileno()


def with_pipe() -> None:
    with fdproof.pipe() as (reading, writing):
        os.write(writing.fileno(), b"x")
        os.read(reading.fileno(), 1)


def unpacked_pipe() -> None:
    reading, writing = fdproof.pipe()
    with reading, writing:
        reading.fileno()


def with_socketpair() -> None:
    with fdproof.socketpair() as (first, second):
        first.fileno()
        second.fileno()


def into_socket() -> None:
    first, second = fdproof.socketpair()
    with first, second, first.into_socket() as ours:
        ours.fileno()


def adopted_socket() -> None:
    first, second = fdproof.socketpair()
    with first, second, fdproof.Descriptor(first.into_socket()) as ours:
        ours.fileno()


def into_file() -> None:
    with fdproof.open(NULL) as owner, owner.into_file("r", encoding="utf-8") as stream:
        stream.read()


def with_reserve() -> None:
    with (
        fdproof.reserve() as entry,
        fdproof.memfd("elsewhere") as file,
        entry.install(file) as owner,
    ):
        owner.fileno()


def with_prepare() -> None:
    with fdproof.prepare(fdproof.epoll) as entry:
        entry.file.fileno()
        with entry.publish() as owner:
            owner.fileno()


def prepare_without_with() -> None:
    fdproof.prepare(lambda: fdproof.open(NULL)).publish().close()


def prepare_and_give_up() -> None:
    with fdproof.prepare(lambda: fdproof.open(NULL)) as entry:
        assert entry.number is not None


def with_transaction() -> None:
    with fdproof.transaction() as block:
        first = block.prepare(fdproof.epoll)
        second = block.reserve(at_least=40)
        second.build(lambda: fdproof.open(NULL))
    with first.descriptor as one, second.descriptor as two:
        assert one.fileno() != two.fileno()


def failing_transaction() -> None:
    with contextlib.suppress(ValueError), fdproof.transaction() as block:
        block.prepare(fdproof.epoll)
        block.reserve()
        raise ValueError


def with_add() -> None:
    with fdproof.add(lambda: fdproof.memfd("added"), at_least=30) as owner:
        owner.fileno()


def with_receive() -> None:
    with (
        fdproof.open(NULL) as source,
        fdproof.receive(source) as owner,
        fdproof.receive(source, at=40) as other,
    ):
        assert owner.same_file(other)


def with_headroom() -> None:
    calls = iter([OSError(errno.EMFILE, "full")] * 2)

    def operation() -> fdproof.Descriptor:
        for error in calls:
            raise error
        return fdproof.epoll()

    with Headroom(2, paths=["path"]) as headroom, headroom.run("path", operation) as owner:
        owner.fileno()


OPERATIONS = [
    with_open,
    assigned_open,
    nested_opens,
    exit_stack,
    with_pipe,
    unpacked_pipe,
    with_socketpair,
    into_socket,
    adopted_socket,
    into_file,
    with_reserve,
    with_prepare,
    prepare_without_with,
    prepare_and_give_up,
    with_transaction,
    failing_transaction,
    with_add,
    with_receive,
    with_headroom,
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_interrupt_anywhere_leaves_the_table_as_it_was(operation: Callable[[], None]) -> None:
    result = sweep(operation)

    assert result.boundaries > 10, result
    assert result.damage == [], str(result)


@contextlib.contextmanager
def opened() -> Iterator[int]:
    number = os.open(NULL, os.O_RDONLY)
    try:
        yield number
    finally:
        os.close(number)


def plain_open_on_a_stack() -> None:
    with contextlib.ExitStack() as stack:
        number = os.open(NULL, os.O_RDONLY)
        stack.callback(os.close, number)
        os.fstat(number)


def plain_open_as_context_manager() -> None:
    with opened() as number:
        os.fstat(number)


def plain_open_with_finally() -> None:
    number = os.open(NULL, os.O_RDONLY)
    try:
        os.fstat(number)
    finally:
        os.close(number)


def plain_pipe_on_a_stack() -> None:
    with contextlib.ExitStack() as stack:
        reading, writing = os.pipe()
        stack.callback(os.close, reading)
        stack.callback(os.close, writing)
        os.fstat(reading)


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        (plain_open_on_a_stack, "plain_open_on_a_stack"),
        (plain_open_as_context_manager, "opened"),
        (plain_open_with_finally, "plain_open_with_finally"),
        (plain_pipe_on_a_stack, "plain_pipe_on_a_stack"),
    ],
)
def test_the_same_without_fdproof_leaks(operation: Callable[[], None], call: str) -> None:
    """The experiment can fail, and at the place it is about: between the call and its assignment."""
    result = sweep(operation, os.close)

    assert any(one.left and one.place.startswith(f"{call}:") for one in result.damage), str(result)
