"""A Unix socket's path: there at once with its permissions, replaced only if nobody listens, removed."""

import errno
import os
import socket
import stat
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fdproof.handover._place import Place
from tests.core.child import in_child


def datagrams() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


@contextmanager
def bound(path: Path, kind: int = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))
        yield sock


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_it_has_its_permissions_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    def check() -> None:
        os.umask(0o077)
        with Place(tmp_path / "s", datagrams(), mode=mode) as place:
            assert stat.S_IMODE(os.stat(place.path).st_mode) == mode
            assert os.listdir(tmp_path) == ["s"]
        assert os.listdir(tmp_path) == []

    in_child(check)


def test_it_receives(tmp_path: Path) -> None:
    with Place(tmp_path / "s", datagrams()) as place, datagrams() as sender:
        sender.sendto(b"x", place.path)
        assert place.socket.recv(9) == b"x"


def test_it_accepts(tmp_path: Path) -> None:
    stream = socket.socket(socket.AF_UNIX)
    with Place(tmp_path / "s", stream, backlog=1) as place, socket.socket(socket.AF_UNIX) as one:
        one.connect(place.path)
        place.socket.accept()[0].close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_what_a_dead_process_left_is_replaced(tmp_path: Path, kind: int) -> None:
    with bound(tmp_path / "s", kind):
        pass
    with Place(tmp_path / "s", datagrams()):
        assert os.listdir(tmp_path) == ["s"]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_what_somebody_listens_on_is_not(tmp_path: Path, kind: int) -> None:
    with bound(tmp_path / "s", kind) as living:
        if kind == socket.SOCK_STREAM:
            living.listen()
        with pytest.raises(OSError, match="somebody listens there") as caught:
            Place(tmp_path / "s", datagrams())

        assert caught.value.errno == errno.EADDRINUSE
        assert caught.value.filename == str(tmp_path / "s")
        assert os.listdir(tmp_path) == ["s"]


def test_a_full_queue_is_somebody(tmp_path: Path) -> None:
    with bound(tmp_path / "s", socket.SOCK_STREAM) as living:
        living.listen(0)
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(tmp_path / "s"))
            with pytest.raises(OSError, match="somebody listens there"):
                Place(tmp_path / "s", socket.socket(socket.AF_UNIX), backlog=1)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(FileExistsError, match="something else than a socket"):
        Place(tmp_path / "s", datagrams())

    (tmp_path / "s").unlink()
    (tmp_path / "s").symlink_to("elsewhere")
    with pytest.raises(FileExistsError, match="something else than a socket"):
        Place(tmp_path / "s", datagrams())


def test_somebody_elses_socket_is_not_removed(tmp_path: Path) -> None:
    place = Place(tmp_path / "s", datagrams())
    os.unlink(place.path)
    with bound(tmp_path / "s"):
        place.close()
        place.close()

        assert os.listdir(tmp_path) == ["s"]


def test_a_path_that_is_gone_is_no_error(tmp_path: Path) -> None:
    with Place(tmp_path / "s", datagrams()) as place:
        os.unlink(place.path)


def test_a_forked_child_does_not_remove_it(tmp_path: Path) -> None:
    with Place(tmp_path / "s", datagrams()) as place:
        in_child(place.close)
        assert os.path.exists(place.path)


@pytest.mark.parametrize(
    ("path", "number"), [("no/such/directory/s", errno.ENOENT), ("file/s", errno.ENOTDIR)]
)
def test_a_place_that_cannot_be_is_said_with_its_path(
    tmp_path: Path, path: str, number: int
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        Place(tmp_path / path, datagrams())

    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / path))


def test_a_long_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^path: '/x+' is longer than the 100 bytes"):
        Place("/" + "x" * 100, datagrams())


def test_of_two_that_start_at_once_one_has_it(tmp_path: Path) -> None:
    """Both find a dead socket there, again and again."""
    path = tmp_path / "s"

    def reach(place: Place) -> None:
        with datagrams() as sender:
            while True:
                try:
                    sender.sendto(b"%d" % os.getpid(), place.path)
                    break
                except FileNotFoundError:
                    pass  # the other one has just seen that somebody lives here
        assert place.socket.recv(99) == b"%d" % os.getpid()

    def check() -> None:
        had = 0
        while had < 100:
            try:
                place = Place(path, datagrams())
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                had += 1
                reach(place)
                # It dies without removing the path.
                place.socket.close()

    pids = []
    for _ in range(2):
        if not (pid := os.fork()):
            try:
                check()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0, 0]
    assert os.listdir(tmp_path) == ["s"]
