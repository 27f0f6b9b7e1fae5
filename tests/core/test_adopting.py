"""What a Descriptor takes over, and what it refuses and leaves as it was."""

import errno
import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest

import fdproof
from fdproof import ClosedError, Descriptor, FileFlags, FlagError, StateError
from tests.core.own_table import entry, table


class Handing:
    """Anything with ``detach()``."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def detach(self) -> Any:
        return self.result


def test_adopts_a_number_and_switches_close_on_exec_on() -> None:
    number = os.dup(0)
    os.set_inheritable(number, True)

    with Descriptor(number) as owner:
        assert owner.fileno() == number
        assert not owner.closed
        assert repr(owner) == f"<fdproof.Descriptor {number}>"
        assert not owner.inheritable
        assert fcntl.fcntl(number, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    assert entry(number) is None


def test_adopts_inheritable_when_told() -> None:
    with Descriptor(os.dup(0), inheritable=True) as owner:
        assert fcntl.fcntl(owner, fcntl.F_GETFD) == 0


def test_adopts_a_socket() -> None:
    ours, theirs = socket.socketpair()
    number = ours.fileno()

    with theirs, Descriptor(ours) as owner:
        assert ours.fileno() == -1
        assert owner.fileno() == number


def test_adopts_from_another_owner() -> None:
    first = fdproof.memfd("moved")
    number = first.fileno()

    with Descriptor(first) as second:
        assert first.closed
        assert second.fileno() == number


def test_adopts_from_anything_with_detach() -> None:
    number = os.dup(0)

    with Descriptor(Handing(number)) as owner:
        assert owner.fileno() == number


@pytest.mark.parametrize(
    "source", [None, 1.5, "3", b"3", True, object(), Handing(True), Handing(None)]
)
def test_refuses_what_has_no_number_to_give(source: Any) -> None:
    before = table()

    with pytest.raises(TypeError, match=r"^source: "):
        Descriptor(source)
    assert table() == before


@pytest.mark.parametrize("number", [-1, 1 << 31, 1 << 80, 99_999])
def test_refuses_a_number_that_is_not_open(number: int) -> None:
    with pytest.raises(OSError, match=str(number)) as caught:
        Descriptor(number)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("mode", ["r", "rb", "w+b"])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_refuses_file_objects_and_leaves_them_open(
    tmp_path: Path, mode: str, buffering: int
) -> None:
    if mode == "r" and buffering == 0:
        buffering = 1
    (tmp_path / "file").touch()
    with open(tmp_path / "file", mode, buffering) as stream:
        with pytest.raises(TypeError, match="receive"):
            Descriptor(stream)  # type: ignore[arg-type]
        os.fstat(stream.fileno())


def test_refuses_the_wrappers_of_tempfile_and_leaves_them_open() -> None:
    with tempfile.NamedTemporaryFile() as stream:
        with pytest.raises(TypeError, match="receive"):
            Descriptor(stream)
        os.fstat(stream.fileno())


def test_refuses_an_owner_that_ended() -> None:
    first = fdproof.epoll()
    first.close()

    with pytest.raises(ClosedError):
        Descriptor(first)


@pytest.mark.parametrize(
    "value", [1, 0, None, "yes", FileFlags.RDWR, fdproof.DescriptorFlags.CLOEXEC]
)
def test_refuses_flags_for_inheritable_and_leaves_the_source(value: Any) -> None:
    with fdproof.epoll() as source:
        with pytest.raises(FlagError, match=r"^inheritable: "):
            Descriptor(source, inheritable=value)
        with pytest.raises(FlagError, match=r"^inheritable: "):
            source.inheritable = value
        with pytest.raises(FlagError, match=r"^inheritable: "):
            source.duplicate(inheritable=value)
        assert not source.inheritable


def test_does_not_take_a_second_number() -> None:
    with fdproof.epoll() as first, fdproof.epoll() as second:
        with pytest.raises(StateError):
            first.__init__(second)
        assert not second.closed
