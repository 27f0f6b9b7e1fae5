"""Handing a descriptor over to Python's own objects: they own it, or the Descriptor still does."""

import codecs
import errno
import io
import os
import socket
from pathlib import Path
from typing import Any, cast

import pytest

import fdproof
from fdproof import Descriptor, FileFlags
from tests.core.own_table import entry

MODES = [
    "r",
    "r+",
    "w",
    "w+",
    "a",
    "a+",
    "rb",
    "rb+",
    "r+b",
    "wb",
    "wb+",
    "ab",
    "a+b",
    "rt",
    "w+t",
    "x",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one\r\ntwo\n")
    return path


def opened(path: Path, mode: str) -> Descriptor:
    if "+" in mode:
        return fdproof.open(path, FileFlags.RDWR)
    return fdproof.open(path, FileFlags.RDONLY if "r" in mode else FileFlags.WRONLY)


@pytest.mark.parametrize("mode", MODES)
def test_is_the_object_that_the_builtin_makes(path: Path, mode: str) -> None:
    owner = opened(path, mode)
    number = owner.fileno()
    encoding = None if "b" in mode else "utf-8"

    with owner.into_file(mode, encoding=encoding) as stream:
        with open(number, mode, encoding=encoding, closefd=False) as usual:
            assert type(stream) is type(usual)
            assert stream.mode == usual.mode
            assert stream.tell() == usual.tell()
            assert (stream.readable(), stream.writable()) == (usual.readable(), usual.writable())
            assert repr(stream) == repr(usual).replace("closefd=False", "closefd=True")
        assert owner.closed
        assert stream.fileno() == number
    assert entry(number) is None


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"mode": "rb", "buffering": 0}, io.FileIO),
        ({"mode": "rb", "buffering": 3}, io.BufferedReader),
        (
            {"mode": "r", "encoding": "latin-1", "errors": "replace", "newline": "\r\n"},
            io.TextIOWrapper,
        ),
    ],
)
def test_passes_the_arguments_on(path: Path, arguments: dict[str, Any], kind: Any) -> None:
    made = cast(Any, fdproof.open(path).into_file(**arguments))
    with made as stream, open(path, **arguments) as usual:
        assert type(stream) is kind
        for name in ("encoding", "errors", "newlines", "line_buffering"):
            assert getattr(stream, name, None) == getattr(usual, name, None)
        assert stream.readlines() == cast(Any, usual).readlines()


def test_writes_lines_as_they_end(path: Path) -> None:
    with fdproof.open(path, FileFlags.WRONLY).into_file(
        "w", buffering=1, encoding="ascii"
    ) as stream:
        assert stream.line_buffering
        stream.write("123\n")
        assert path.read_bytes() == b"123\n\ntwo\n"
        stream.write("4")
        assert path.read_bytes() == b"123\n\ntwo\n"
    assert path.read_bytes() == b"123\n4two\n"


def test_a_pipe_becomes_two_files() -> None:
    first, second = fdproof.pipe()
    with first.into_file("rb") as reading, second.into_file("wb") as writing:
        writing.write(b"through")
        writing.close()
        assert reading.read() == b"through"


@pytest.mark.parametrize(
    "arguments",
    [
        {"mode": "z"},
        {"mode": ""},
        {"mode": "rw"},
        {"mode": "rbt"},
        {"mode": None},
        {"mode": "r", "buffering": 0},
        {"mode": "rb", "buffering": "1"},
        {"mode": "rb", "buffering": 1},  # a RuntimeWarning, which is an error here
        {"mode": "rb", "encoding": "utf-8"},
        {"mode": "rb", "newline": ""},
        {"mode": "r", "encoding": "no such encoding"},
        {"mode": "r", "newline": "x"},
        {"mode": "r", "errors": 3},
    ],
    ids=str,
)
def test_leaves_the_owner_when_the_arguments_are_bad(path: Path, arguments: dict[str, Any]) -> None:
    with fdproof.open(path) as owner:
        number = owner.fileno()

        with pytest.raises((ValueError, TypeError, LookupError, RuntimeWarning)):
            owner.into_file(**arguments)

        assert owner.fileno() == number
        os.fstat(number)


def test_leaves_the_owner_when_the_file_does_not_fit(tmp_path: Path) -> None:
    pair = fdproof.pipe()
    with pair, fdproof.open(tmp_path, FileFlags.DIRECTORY) as directory:
        with pytest.raises(io.UnsupportedOperation):
            pair.first.into_file("r+b")  # not seekable
        with pytest.raises(IsADirectoryError):
            directory.into_file("rb")
        assert not pair.first.closed
        assert not directory.closed


def test_leaves_the_owner_when_it_is_interrupted(path: Path) -> None:
    """A codec is Python code, so a signal handler may run in the middle of the call."""

    def search(name: str) -> codecs.CodecInfo | None:
        if name == "interrupting":
            raise KeyboardInterrupt
        return None

    codecs.register(search)
    try:
        with fdproof.open(path) as owner:
            with pytest.raises(KeyboardInterrupt):
                owner.into_file("r", encoding="interrupting")
            os.fstat(owner.fileno())
    finally:
        codecs.unregister(search)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_becomes_a_socket(kind: int) -> None:
    first, second = fdproof.socketpair(type=kind)
    number = first.fileno()
    with first.into_socket() as ours, second.into_socket() as theirs:
        assert first.closed
        assert ours.fileno() == number
        assert (ours.family, ours.type) == (socket.AF_UNIX, kind)
        ours.send(b"across")
        assert theirs.recv(10) == b"across"
    assert entry(number) is None


def test_leaves_the_owner_when_it_is_no_socket() -> None:
    with fdproof.epoll() as owner:
        with pytest.raises(OSError, match="socket") as caught:
            owner.into_socket()
        assert caught.value.errno == errno.ENOTSOCK
        os.fstat(owner.fileno())


def test_leaves_the_owner_when_the_socket_class_fails_late(monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.socket.__init__

    def late(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(socket.socket, "__init__", late)
    with fdproof.socketpair() as pair:
        with pytest.raises(KeyboardInterrupt):
            pair.first.into_socket()
        os.fstat(pair.first.fileno())
