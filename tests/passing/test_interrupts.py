"""Ctrl-C at every bytecode boundary: what arrives is owned before any of them."""

import os
import socket
from collections.abc import Callable, Iterator

import pytest

import fdproof
from fdproof import TruncatedError, passing
from fdproof.passing import Credentials
from tests.core.boundaries import sweep
from tests.core.child import in_child
from tests.core.full_table import limit
from tests.passing.raw import SO_PASSPIDFD

pytestmark = [
    pytest.mark.requires_kernel("SO_PASSPIDFD", "SO_PEERPIDFD"),
    # An owner that an interrupt drops warns and closes: here that is the right end.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


class Scene:
    """Two ends that outlive the interrupts; the far one asks for credentials and pidfds."""

    def __init__(self, near: socket.socket, far: socket.socket, file: fdproof.Descriptor) -> None:
        self.near, self.far, self.file = near, far, file
        far.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        far.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)

    def drop_what_is_left(self) -> None:
        """A message that an interrupt kept from being received: read without them, its files are dropped."""
        try:
            while True:
                self.far.recv(10, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass

    def passing_some(self) -> None:
        passing.send(self.near, b"x", [self.file, self.file.fileno()])
        with passing.receive(self.far, 10, 4) as message:
            assert message.process is not None

    def passing_with_credentials(self) -> None:
        passing.send(self.near, b"x", (self.file,), credentials=Credentials.current())
        message = passing.receive(self.far, 10, 1)
        try:
            assert message.credentials == Credentials.current()
        finally:
            message.close()

    def taking_a_file(self) -> None:
        passing.send(self.near, b"x", [self.file])
        with passing.receive(self.far, 10, 1) as message:
            with message.files[0].into_file("rb") as stream:
                stream.read()

    def asking_for_too_few(self) -> None:
        passing.send(self.near, b"x", [self.file] * 3)
        with pytest.raises(TruncatedError) as caught:
            passing.receive(self.far, 10, 1)
        with caught.value as error:
            assert error.message.files

    def asking_who_it_is(self) -> None:
        with passing.peer(self.near) as peer:
            assert peer.process.pid == os.getpid()


@pytest.fixture
def scene() -> Iterator[Scene]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, fdproof.memfd("sent") as file:
        yield Scene(near, far, file)


@pytest.mark.parametrize(
    "operation",
    [
        Scene.passing_some,
        Scene.passing_with_credentials,
        Scene.taking_a_file,
        Scene.asking_for_too_few,
        Scene.asking_who_it_is,
    ],
)
def test_an_interrupt_anywhere_leaves_nothing(
    operation: Callable[[Scene], None], scene: Scene
) -> None:
    def once() -> None:
        scene.drop_what_is_left()
        operation(scene)

    found = sweep(once)

    assert found.boundaries > 20
    assert found.damage == [], str(found)


def test_an_interrupt_anywhere_leaves_nothing_of_half_a_message(scene: Scene) -> None:
    def once() -> None:
        scene.drop_what_is_left()
        scene.asking_for_too_few()

    def check() -> None:
        limit(2)
        found = sweep(once)
        assert found.damage == [], str(found)

    in_child(check)


def test_the_same_with_the_standard_library_leaves_descriptors(scene: Scene) -> None:
    """The experiment can fail."""

    def once() -> None:
        passing.send(scene.near, b"x", [scene.file])
        numbers = socket.recv_fds(scene.far, 10, 9)[1]
        try:
            assert numbers
        finally:
            for number in numbers:
                os.close(number)

    assert sweep(once, os.close).damage
