"""What the tests of handover share: a place for sockets, and stores."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import fdproof
from tests.handover.stores import Scene


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory with a short name: the address of a socket has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="fdproof-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "store")
    with scene.store:
        yield scene


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Scene]:
    """A store whose answer takes two messages."""
    scene = Scene(tmp_path / "full", per_client=1000)
    with scene.store:
        for index in range(300):
            scene.store.keep(f"{index:0255}", fdproof.eventfd())
        yield scene
