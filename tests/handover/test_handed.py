"""Handed: what was handed over is taken by name, kind or entry, and closed otherwise."""

import errno
import socket
from collections.abc import Iterator

import pytest

import fdproof
from fdproof.handover import Handed


@pytest.fixture
def handed() -> Iterator[Handed]:
    """Two listening sockets called web, a connection called one, a file called log."""
    here, there = socket.socketpair()
    with (
        there,
        Handed(
            ["web", "one", "web", "log"],
            [
                fdproof.Descriptor(socket.create_server(("127.0.0.1", 0))),
                fdproof.Descriptor(here),
                fdproof.Descriptor(socket.create_server(("127.0.0.1", 0))),
                fdproof.memfd("log"),
            ],
        ) as handed,
    ):
        yield handed


def test_it_is_taken_by_its_name(handed: Handed) -> None:
    with handed.take("log") as log, handed.take_socket("one") as one:
        assert (log.inheritable, one.family) == (False, socket.AF_UNIX)

        assert [entry.name for entry in handed] == ["web", "web"]


def test_it_is_taken_by_its_entry(handed: Handed) -> None:
    _, _, second, log = handed

    with handed.take_socket(second) as web, handed.take(log):
        assert web.getsockname()[1] > 0
        assert len(handed) == 2


def test_the_only_one_needs_no_name() -> None:
    with Handed(["x"], [fdproof.eventfd()]) as handed, handed.take():
        assert len(handed) == 0


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (
            "web",
            (
                "more than one descriptor named 'web' was handed over; pass one of the entries: "
                "<'web': AF_INET, SOCK_STREAM, listening>, <'one': AF_UNIX, SOCK_STREAM>, "
                "<'web': AF_INET, SOCK_STREAM, listening>, <'log': no socket>"
            ),
        ),
        ("no", "no descriptor named 'no' was handed over; there is: <'web': AF_INET"),
        (None, "more than one descriptor was handed over; pass one of the entries"),
    ],
)
def test_what_is_not_one_is_refused_with_what_there_is(
    handed: Handed, which: str | None, message: str
) -> None:
    for take in (handed.take, handed.take_socket):
        with pytest.raises(LookupError) as caught:
            take(which)
        assert str(caught.value).startswith(message)
    assert len(handed) == 4


def test_an_entry_is_taken_once(handed: Handed) -> None:
    entry = next(iter(handed))
    handed.take(entry).close()

    with pytest.raises(LookupError, match=r"^no <'web': .*> any more was handed over"):
        handed.take(entry)


def test_what_is_no_socket_is_not_taken_as_one(handed: Handed) -> None:
    with pytest.raises(OSError, match="non-socket") as caught:
        handed.take_socket("log")

    assert caught.value.errno == errno.ENOTSOCK
    handed.take("log").close()


@pytest.mark.parametrize(
    ("name", "listening", "names"),
    [
        (None, None, ["web", "one", "web"]),
        (None, True, ["web", "web"]),
        (None, False, ["one"]),
        ("web", None, ["web", "web"]),
        ("web", False, []),
        ("log", None, []),
    ],
)
def test_sockets_are_taken_together(
    handed: Handed, name: str | None, listening: bool | None, names: list[str]
) -> None:
    before = [entry.name for entry in handed]
    taken = handed.take_sockets(name, listening=listening)
    after = [entry.name for entry in handed]
    for sock in taken:
        sock.close()

    assert len(taken) == len(names)
    assert sorted(before) == sorted(after + names)


def test_the_end_of_the_block_closes_the_rest() -> None:
    files = [fdproof.eventfd(), fdproof.eventfd()]
    with Handed(["a", "b"], files) as handed:
        taken = handed.take("a")

    assert [file.closed for file in files] == [False, True]
    taken.close()


def test_a_file_that_is_only_named_is_no_socket() -> None:
    path = fdproof.open("/dev/null", fdproof.FileFlags.PATH)
    with Handed(["path"], [path]) as handed:
        assert repr(handed) == "<fdproof.handover.Handed [<'path': no socket>]>"


def test_names_and_owners_are_as_many() -> None:
    with (
        fdproof.eventfd() as file,
        pytest.raises(ValueError, match=r"^names: there are 0 for 1 owners$"),
    ):
        Handed([], [file])
