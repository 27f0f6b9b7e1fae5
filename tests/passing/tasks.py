"""What other processes do in the tests of multiprocessing: importable without the rest of the tests."""

import os
from multiprocessing.connection import Connection
from typing import Any

import fdproof
from fdproof import Descriptor
from fdproof.passing import Message
from fdproof.process import Process
from tests.core.full_table import limit


def table() -> dict[int, str]:
    """This process's table: what each number refers to, but for the listing's own."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            pass
    return found


def numbers_of(name: str) -> int:
    """How many descriptors of the memfd with this name are in this process's table."""
    return sum(f"/memfd:{name} " in target for target in table().values())


def write(descriptor: Descriptor, data: bytes) -> tuple[int, int, bool]:
    """Write to a file and close the descriptor; tell how many there were before and after."""
    before = numbers_of("shared")
    inheritable = descriptor.inheritable
    os.write(descriptor.fileno(), data)
    descriptor.close()
    return before, numbers_of("shared"), inheritable


def answer_write(descriptor: Descriptor, answers: Connection) -> None:
    """For a Process: what ``write`` says, into a connection."""
    with answers:
        answers.send(write(descriptor, b"argument"))


def answer_twice(
    first: Descriptor, second: Descriptor, message: Message, answers: Connection
) -> None:
    """For a Process: whether what was one object is one object again."""
    with answers, message:
        answers.send((first is second, first is message.files[0], message.data))


def serve(connection: Connection) -> None:
    """Write to each Descriptor that comes, and send it back; None is the end."""
    with connection:
        while (descriptor := connection.recv()) is not None:
            os.write(descriptor.fileno(), b"there")
            connection.send(descriptor)
            descriptor.close()
            # Sent and received, before this process may end.
            connection.recv()


def send_and_end(connection: Connection) -> None:
    """Send a Descriptor that nobody fetches before this process has ended."""
    with connection, fdproof.memfd("gone") as file:
        connection.send(file)


def read_all(queue: Any, count: int, answers: Connection) -> None:
    """Read from each Descriptor of a queue, and tell how the table changed."""
    with answers:
        # The first starts what later ones need: a random source, a current process's key.
        texts = []
        sizes = []
        for _ in range(count):
            with queue.get() as descriptor:
                texts.append(os.pread(descriptor.fileno(), 100, 0))
            sizes.append(len(table()))
        answers.send((texts, sizes[-1] - sizes[0]))


def make(text: bytes) -> Descriptor:
    """Make a file and hand it to whoever asked."""
    file = fdproof.memfd("made")
    os.write(file.fileno(), text)
    return file


def table_size(_: int) -> tuple[int, int]:
    """The process, and how many descriptors it has."""
    return os.getpid(), len(table())


def describe(message: Message, process: Process) -> tuple[bytes, int, int | None, int, bool]:
    """What a Message and a Process are, over here."""
    with message, process:
        return (
            message.data,
            len(message.files),
            message.credentials.pid if message.credentials else None,
            process.pid,
            process.owned,
        )


def fails(descriptor: Descriptor) -> None:
    """Raise, with the descriptor still open."""
    raise ValueError(f"did not like {type(descriptor).__name__}")


def have_no_number_left(_: int) -> None:
    """Let this process open nothing more."""
    limit(0)


def receive_in_full_table(connection: Connection, answers: Connection) -> None:
    """Receive a Descriptor where there is no number left for it; tell what was raised."""
    with connection, answers:
        # What the way needs is loaded by the first.
        connection.recv().close()
        limit(1)
        try:
            connection.recv()
        except (OSError, fdproof.Error) as error:
            answers.send((type(error).__name__, str(error)))
