"""Opening by path: where it starts, how it walks, what the kernel says, and what a signal does."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fdproof
from fdproof import (
    Descriptor,
    FileFlags,
    ResolveFlags,
    UnsupportedError,
)
from tests.core.child import in_child, refuse
from tests.core.own_table import table

OPENAT2 = "437 "  # the same on every architecture


def test_open_without_openat2() -> None:
    """Where the kernel is older than 5.6, all but ``resolve`` still works."""

    def check() -> None:
        refuse({"openat2": (errno.ENOSYS, None)})
        with fdproof.open("/dev/null", FileFlags.WRONLY) as owner:
            assert owner.status == FileFlags.WRONLY
            assert not owner.inheritable
        with pytest.raises(FileNotFoundError, match="nothing-here"):
            fdproof.open("/nothing-here")
        with pytest.raises(UnsupportedError, match="openat2"):
            fdproof.open("/dev/null", resolve=ResolveFlags.NO_SYMLINKS)

    in_child(check)


@pytest.mark.parametrize(
    ("flags", "name", "number"),
    [
        (FileFlags.RDONLY, "missing", errno.ENOENT),
        (FileFlags.WRONLY, ".", errno.EISDIR),
        (FileFlags.DIRECTORY, "file", errno.ENOTDIR),
        (FileFlags.NOFOLLOW, "link", errno.ELOOP),
        (FileFlags.CREAT | FileFlags.EXCL, "file", errno.EEXIST),
    ],
)
def test_open_says_what_the_kernel_says(
    tmp_path: Path, flags: FileFlags, name: str, number: int
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")

    with pytest.raises(OSError, match=r"^\[Errno") as caught:
        fdproof.open(tmp_path / name, flags)
    assert caught.value.errno == number
    assert caught.value.filename == tmp_path / name
    assert not isinstance(caught.value, fdproof.Error)


@pytest.mark.parametrize("path", ["file", b"file", Path("file")])
def test_open_starts_from_a_directory(tmp_path: Path, path: str | bytes | Path) -> None:
    (tmp_path / "file").write_text("found")
    with fdproof.open(tmp_path, FileFlags.DIRECTORY | FileFlags.PATH) as directory:
        for start in (directory, directory.fileno()):
            with fdproof.open(path, directory=start) as owner:
                assert os.read(owner.fileno(), 10) == b"found"


@pytest.mark.requires_kernel("openat2")
def test_open_resolves_as_told(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path)
    (tmp_path / "secret").touch()
    with fdproof.open(tmp_path / "inside", FileFlags.DIRECTORY) as directory:
        for escape in ("../secret", "link/secret", str(tmp_path / "secret")):
            with pytest.raises(OSError, match="Invalid cross-device link") as caught:
                fdproof.open(escape, directory=directory, resolve=ResolveFlags.BENEATH)
            assert caught.value.errno == errno.EXDEV
        with pytest.raises(OSError, match="symbolic links"):
            fdproof.open("link", directory=directory, resolve=ResolveFlags.NO_SYMLINKS)
        with fdproof.open("..", directory=directory, resolve=ResolveFlags.IN_ROOT) as root:
            assert os.path.samestat(os.fstat(root.fileno()), os.fstat(directory.fileno()))


def test_open_creates_with_the_mode(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with fdproof.open(tmp_path / "new", FileFlags.WRONLY | FileFlags.CREAT, mode=0o640):
            assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o640
        with fdproof.open(tmp_path, FileFlags.RDWR | FileFlags.TMPFILE, mode=0o600) as owner:
            assert os.fstat(owner.fileno()).st_mode & 0o7777 == 0o600
            assert os.fstat(owner.fileno()).st_nlink == 0
            assert owner.status == FileFlags.RDWR | FileFlags.TMPFILE
    finally:
        os.umask(before)


def blocked_in_open(thread: int) -> bool:
    call = Path(f"/proc/self/task/{thread}/syscall")
    return call.read_text().startswith(OPENAT2)


@pytest.fixture
def signal_when_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Runs a handler in the main thread, by a real signal, once that thread waits inside open()."""
    main = threading.get_native_id()
    before = signal.getsignal(signal.SIGUSR1)
    threads: list[threading.Thread] = []

    def arrange(handler: Callable[[], None]) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: handler())

        def send() -> None:
            while not blocked_in_open(main):
                time.sleep(0.001)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        threads.append(threading.Thread(target=send, daemon=True))
        threads[0].start()

    yield arrange
    for thread in threads:
        thread.join()
    signal.signal(signal.SIGUSR1, before)


def test_open_ends_with_what_a_signal_handler_raises(
    tmp_path: Path, signal_when_blocked: Callable[[Callable[[], None]], None]
) -> None:
    os.mkfifo(tmp_path / "fifo")

    def interrupt() -> None:
        raise KeyboardInterrupt

    before = table()
    signal_when_blocked(interrupt)
    with pytest.raises(KeyboardInterrupt):
        fdproof.open(tmp_path / "fifo")
    assert table() == before


def test_open_goes_on_after_a_signal_handler(
    tmp_path: Path, signal_when_blocked: Callable[[Callable[[], None]], None]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    writers: list[Descriptor] = []
    signal_when_blocked(lambda: writers.append(fdproof.open(tmp_path / "fifo", FileFlags.RDWR)))

    with fdproof.open(tmp_path / "fifo") as reading, writers[0] as writing:
        os.write(writing.fileno(), b"x")
        assert os.read(reading.fileno(), 1) == b"x"
