"""What is read, written and sought in files and pipes: random steps on the model and on Linux."""

import errno
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from fdproof.model import Kernel
from tests.model.linux.kernel import RealKernel

STEPS = 60


def outcome(task: Any, call: str, *arguments: Any) -> object:
    try:
        return getattr(task, call)(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def both(real_kernel: RealKernel) -> tuple[Any, Any]:
    return Kernel().spawn(), real_kernel.spawn()


def agree(tasks: tuple[Any, Any], steps: Iterator[tuple[Any, ...]]) -> None:
    done: list[tuple[Any, ...]] = []
    for step in steps:
        done.append(step)
        model, linux = (outcome(task, *step) for task in tasks)
        assert model == linux, f"{len(done)} steps: {[str(one)[:60] for one in done[-6:]]}"


def size(chooser: random.Random) -> int:
    near = chooser.choice([0, 1, 7, 100, 904, 2048, 4096, 8192, 12288])
    return max(0, near + chooser.choice([0, 0, 0, -1, 1, 60]))


def data(chooser: random.Random) -> bytes:
    return bytes([chooser.randrange(1, 256)]) * size(chooser)


@pytest.mark.parametrize("seed", range(12))
def test_a_pipe_is_filled_and_emptied_page_by_page_as_in_linux(
    real_kernel: RealKernel, seed: int
) -> None:
    chooser = random.Random(seed)
    packets = os.O_DIRECT if seed % 3 == 0 else 0

    def steps() -> Iterator[tuple[Any, ...]]:
        yield "pipe2", os.O_NONBLOCK | packets
        for _ in range(STEPS):
            if chooser.random() < 0.6:
                yield "write", 1, data(chooser)
            else:
                yield "read", 0, size(chooser)
            yield "poll", 0
            yield "poll", 1
            if chooser.random() < 0.1:
                # Packets can be turned on and off between two writes.
                yield "fcntl", 1, 4, chooser.choice([os.O_NONBLOCK, os.O_NONBLOCK | os.O_DIRECT])
        yield "close", chooser.randrange(2)
        for number in (0, 1):
            yield "poll", number
            yield "read", number, 5
            yield "write", number, b"x"

    agree(both(real_kernel), steps())


@pytest.mark.parametrize("seed", range(12))
def test_a_file_keeps_its_bytes_its_holes_and_its_offset_as_in_linux(
    real_kernel: RealKernel, seed: int
) -> None:
    chooser = random.Random(seed)
    places = [
        0,
        1,
        4095,
        4096,
        4097,
        12288,
        40000,
        2**20,
        2**33,
        2**62,
        2**63 - 4097,
        2**63 - 2,
        2**63 - 1,
    ]

    def offset() -> int:
        return chooser.choice(places) * chooser.choice([1, 1, 1, -1]) + chooser.choice([0, 0, -1])

    def steps() -> Iterator[tuple[Any, ...]]:
        yield "open", "f", os.O_RDWR | os.O_CREAT
        yield "open", "f", os.O_RDWR | os.O_APPEND
        yield "dup", 0
        for _ in range(STEPS):
            number = chooser.randrange(3)
            yield chooser.choice(
                [
                    ("write", number, data(chooser)),
                    ("read", number, size(chooser)),
                    (
                        "lseek",
                        number,
                        max(-(2**63), min(offset(), 2**63 - 1)),
                        chooser.randrange(5),
                    ),
                    ("lseek", number, chooser.choice([0, 4096, 8192]), chooser.choice([0, 3, 4])),
                ]
            )
            yield "lseek", number, 0, os.SEEK_CUR
        yield "open", "f", os.O_TRUNC
        yield "lseek", 0, 0, os.SEEK_END

    agree(both(real_kernel), steps())


def test_bytes_are_read_where_they_were_written(kernel: Any) -> None:
    task = kernel.spawn()
    number = task.open("f", os.O_RDWR | os.O_CREAT)

    assert task.write(number, b"hello") == 5
    assert task.lseek(number, 10000, os.SEEK_SET) == 10000
    assert task.write(number, b"there") == 5
    assert task.lseek(number, 3, os.SEEK_SET) == 3
    assert task.read(number, 10) == b"lo" + bytes(8)
    assert task.lseek(number, 0, os.SEEK_HOLE) == 4096
    assert task.lseek(number, 4096, os.SEEK_DATA) == 8192


def test_what_was_cut_off_does_not_come_back(kernel: Any) -> None:
    task = kernel.spawn()
    number = task.open("f", os.O_RDWR | os.O_CREAT)
    task.write(number, b"secret")

    task.open("f", os.O_TRUNC)
    task.write(number, b"x")

    assert task.lseek(number, 0, os.SEEK_SET) == 0
    assert task.read(number, 20) == bytes(6) + b"x"


def test_every_write_of_an_appending_file_goes_to_the_end(kernel: Any) -> None:
    task = kernel.spawn()
    plain = task.open("f", os.O_RDWR | os.O_CREAT)
    appending = task.open("f", os.O_WRONLY | os.O_APPEND)
    task.write(plain, b"abc")

    task.write(appending, b"def")

    assert task.lseek(appending, 0, os.SEEK_CUR) == 6
    assert task.read(plain, 10) == b"def"


def test_a_page_that_was_read_from_is_not_written_to_from_its_beginning(kernel: Any) -> None:
    task = kernel.spawn()
    reading, writing = task.pipe2(os.O_NONBLOCK)
    task.write(writing, bytes(3000))
    task.read(reading, 2999)

    assert task.write(writing, bytes(1000)) == 1000, "the rest of the page"
    assert task.write(writing, bytes(2000)) == 2000, "a page of its own"
    assert sum(task.write(writing, bytes(4096)) for _ in range(14)) == 14 * 4096
    with pytest.raises(OSError, match="temporarily unavailable"):
        task.write(writing, bytes(4096))


def test_the_last_reader_and_the_last_writer_are_told(kernel: Any) -> None:
    task = kernel.spawn()
    reading, writing = task.pipe2()
    second = task.dup(writing)
    task.write(writing, b"left")

    task.close(writing)
    assert task.poll(reading) == 0x41
    task.close(second)
    assert task.poll(reading) == 0x51
    assert task.read(reading, 10) == b"left"
    assert task.read(reading, 10) == b""

    reading, writing = task.pipe2()
    task.close(reading)
    assert task.poll(writing) == 0x10C
    with pytest.raises(OSError, match="Broken pipe"):
        task.write(writing, b"x")
    assert task.write(writing, b"") == 0
