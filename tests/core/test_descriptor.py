"""A Descriptor is the sole owner: it takes a number, lends it, gives it up, closes it once."""

import copy
import errno
import fcntl
import os
import pickle
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fdproof
from fdproof import ClosedError, Descriptor, FileFlags, FlagError
from tests.core.own_table import entry, lowest_free

USES: dict[str, Callable[[Descriptor], object]] = {
    "fileno": lambda owner: owner.fileno(),
    "detach": lambda owner: owner.detach(),
    "duplicate": lambda owner: owner.duplicate(),
    "inheritable": lambda owner: owner.inheritable,
    "inheritable =": lambda owner: setattr(owner, "inheritable", True),
    "into_file": lambda owner: owner.into_file("rb"),
    "into_socket": lambda owner: owner.into_socket(),
    "same_file": lambda owner: owner.same_file(0),
    "status": lambda owner: owner.status,
    "status =": lambda owner: setattr(owner, "status", FileFlags.NONBLOCK),
    "with": lambda owner: owner.__enter__(),
}


def test_every_public_member_is_used_below() -> None:
    members = {name for name in dir(Descriptor) if not name.startswith("_")}

    assert members - {"close", "closed"} == {name.split()[0] for name in USES} - {"with"}


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
@pytest.mark.parametrize("end", ["closed", "detached", "handed over"])
def test_nothing_works_after_the_end(use: Callable[[Descriptor], object], end: str) -> None:
    owner = fdproof.memfd("ended")
    if end == "closed":
        owner.close()
    elif end == "detached":
        os.close(owner.detach())
    else:
        owner.into_file("rb").close()

    with pytest.raises(ClosedError):
        use(owner)
    assert owner.closed
    assert repr(owner) == "<fdproof.Descriptor closed>"
    owner.close()  # quiet, however often


def test_detach_gives_the_number_up() -> None:
    owner = fdproof.epoll()
    number = owner.detach()

    assert owner.closed
    del owner
    assert entry(number) is not None
    os.close(number)


def test_close_says_that_somebody_else_closed_it() -> None:
    owner = fdproof.epoll()
    number = owner.fileno()
    os.close(number)

    with pytest.raises(OSError, match=rf"descriptor {number} .*somebody else") as caught:
        owner.close()
    assert caught.value.errno == errno.EBADF
    assert owner.closed


def test_close_forgets_the_number() -> None:
    """A second close, and the finaliser, leave whoever has the number now alone."""
    owner = fdproof.epoll()
    number = owner.fileno()
    owner.close()
    with fdproof.memfd("stranger") as stranger:
        assert stranger.fileno() == number

        owner.close()
        del owner

        assert entry(number) is not None


def test_leaving_the_block_closes_after_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), fdproof.epoll() as owner:
        raise ZeroDivisionError
    assert owner.closed


def test_dropped_owner_warns_and_closes() -> None:
    owner = fdproof.epoll()
    number = owner.fileno()

    with pytest.warns(ResourceWarning, match=f"unclosed descriptor {number}"):
        del owner
    assert entry(number) is None


def test_dropped_owner_is_shown_with_its_origin() -> None:
    tracemalloc.start()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fdproof.epoll()
        [warning] = caught
        origin = tracemalloc.get_object_traceback(warning.source)
    finally:
        tracemalloc.stop()

    assert origin is not None
    assert origin[-1].filename == __file__


def test_dropped_owner_closes_when_warnings_are_errors() -> None:
    free = lowest_free()
    unraisable: list[Any] = []
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr("sys.unraisablehook", lambda args: unraisable.append(args.exc_type))
        fdproof.epoll()

    assert unraisable == [ResourceWarning]
    assert lowest_free() == free


def test_inheritable_reads_and_sets_the_descriptor_flag() -> None:
    with fdproof.epoll() as owner:
        owner.inheritable = True
        assert fcntl.fcntl(owner, fcntl.F_GETFD) == 0
        assert owner.inheritable
        owner.inheritable = False
        assert fcntl.fcntl(owner, fcntl.F_GETFD) == fcntl.FD_CLOEXEC


def test_status_reads_and_sets_the_file_flags(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with fdproof.open(path, FileFlags.RDWR | FileFlags.CREAT | FileFlags.SYNC) as owner:
        assert owner.status == FileFlags.RDWR | FileFlags.SYNC
        owner.status |= FileFlags.APPEND | FileFlags.NONBLOCK
        assert (
            fcntl.fcntl(owner, fcntl.F_GETFL) & (os.O_APPEND | os.O_NONBLOCK)
            == os.O_APPEND | os.O_NONBLOCK
        )
        with owner.duplicate() as shared:
            assert shared.status == owner.status
        owner.status &= ~FileFlags.APPEND
        assert owner.status == FileFlags.RDWR | FileFlags.SYNC | FileFlags.NONBLOCK


@pytest.mark.parametrize(
    "flag", [FileFlags.WRONLY, FileFlags.RDWR, FileFlags.SYNC, FileFlags.DIRECTORY, FileFlags.CREAT]
)
def test_status_refuses_what_cannot_change(flag: FileFlags) -> None:
    with fdproof.open("/dev/null") as owner:
        with pytest.raises(FlagError, match="fixed when the file is opened"):
            owner.status |= flag
        assert owner.status == FileFlags.RDONLY


def test_duplicate_shares_the_file_and_nothing_else() -> None:
    with fdproof.memfd("shared") as owner, owner.duplicate(at_least=50, inheritable=True) as other:
        assert other.fileno() == lowest_free(50) - 1
        assert other.inheritable
        assert not owner.inheritable
        os.write(owner.fileno(), b"four")
        assert os.lseek(other.fileno(), 0, os.SEEK_CUR) == 4


@pytest.mark.parametrize("at_least", [-1, 1 << 31, 1.0, True, None])
def test_duplicate_names_a_bad_argument(at_least: Any) -> None:
    with fdproof.epoll() as owner, pytest.raises((TypeError, ValueError), match=r"^at_least: "):
        owner.duplicate(at_least=at_least)


def test_duplicate_beyond_the_limit() -> None:
    with (
        fdproof.epoll() as owner,
        pytest.raises(OSError, match=r"at_least: .*RLIMIT_NOFILE") as caught,
    ):
        owner.duplicate(at_least=(1 << 31) - 1)
    assert caught.value.errno == errno.EINVAL


def test_is_neither_copied_nor_pickled() -> None:
    with fdproof.pipe() as pair:
        for owner in (pair.first, pair):
            for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError, match="pickled or copied"):
                    attempt(owner)


def test_pair_closes_the_second_when_the_first_fails() -> None:
    pair = fdproof.pipe()
    second = pair.second.fileno()
    os.close(pair.first.fileno())

    with pytest.raises(OSError, match="somebody else"):
        pair.close()
    assert entry(second) is None


def test_pair_unpacks_indexes_and_refuses_to_be_made() -> None:
    with fdproof.pipe() as pair:
        first, second = pair
        assert (pair[0], pair[1], len(pair)) == (first, second, 2)
        assert (first, second) == (pair.first, pair.second)
        assert repr(pair) == f"<fdproof.Pair {first!r}, {second!r}>"
    assert first.closed
    assert second.closed
    with pytest.raises(TypeError, match="pipe"):
        fdproof.Pair()
    with pytest.raises(ClosedError):
        fdproof.Pair.__new__(fdproof.Pair).__enter__()
