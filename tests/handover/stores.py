"""A store with a service and everything that either says, and what makes their lives hard."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fdproof
from fdproof import passing
from fdproof.handover import Notification, Refusal, Service, Store
from tests.core.full_table import limit


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """A table with so many free numbers, for the rest of the block; only in a child."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit(count)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Scene:
    """A store, a service that it belongs to, and everything that either says."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.heard: list[Notification] = []
        self.refused: list[Refusal] = []
        self.store = Store(path, heard=self.heard.append, refused=self.refused.append, **options)
        self.service = Service(self.store.path)

    def send(self, data: bytes, *files: Any) -> None:
        """Send anything, and have the store read it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            passing.send(sock, data, files, address=self.store.path)
        self.store.handle()

    def push(self, name: str, file: Any, *, poll: bool = True) -> None:
        self.service.push(name, file, poll=poll)
        self.store.handle()

    @property
    def reasons(self) -> list[str]:
        return [one.reason for one in self.refused]


def narrow(end: fdproof.Descriptor) -> None:
    """Leave room for the first message of an answer, and not for a second."""
    with end.duplicate().into_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 33_500)
