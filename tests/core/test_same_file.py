"""Two numbers, one file or two: asked of the kernel, in whichever way it can answer."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import fdproof
from fdproof import ClosedError, UnsupportedError
from tests.core.child import in_child, refuse

F_DUPFD_QUERY = 1027
NO_QUERY = {"fcntl": (errno.EINVAL, (1, F_DUPFD_QUERY))}


def compare(path: Path) -> None:
    """All that a comparison promises."""
    with fdproof.open(path) as owner, owner.duplicate() as shared, fdproof.open(path) as again:
        assert owner.same_file(owner)
        assert owner.same_file(shared)
        assert owner.same_file(shared.fileno())
        assert not owner.same_file(again), "the same path, but another offset"
        with owner.duplicate().into_file("rb") as stream:
            assert owner.same_file(stream)
        again.close()
        with pytest.raises(ClosedError):
            owner.same_file(again)
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            owner.same_file(shared.fileno() + 1)
        assert caught.value.errno == errno.EBADF
        assert not isinstance(caught.value, UnsupportedError)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch()
    return path


@pytest.mark.requires_kernel("F_DUPFD_QUERY")
def test_by_query(path: Path) -> None:
    def check() -> None:
        refuse({"kcmp": (errno.ENOSYS, None)})
        compare(path)

    in_child(check)


@pytest.mark.requires_kernel("kcmp")
def test_by_kcmp_where_the_query_is_unknown(path: Path) -> None:
    def check() -> None:
        refuse(NO_QUERY)
        compare(path)

    in_child(check)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_says_so_where_neither_is_there(number: int) -> None:
    def check() -> None:
        refuse(NO_QUERY | {"kcmp": (number, None)})
        with fdproof.epoll() as owner:
            with pytest.raises(UnsupportedError, match=r"F_DUPFD_QUERY.*6\.10") as caught:
                owner.same_file(0)
            assert caught.value.errno == number
            assert isinstance(caught.value, OSError)
            os.fstat(owner.fileno())

    in_child(check)


@pytest.mark.parametrize("other", [None, "0", 1.0, True, object(), -1, 1 << 31])
def test_names_a_bad_argument(other: Any) -> None:
    with fdproof.epoll() as owner, pytest.raises((TypeError, ValueError), match=r"^other: "):
        owner.same_file(other)
