"""A child has the descriptors that were given, at their numbers, and no others."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fdproof
from fdproof import process
from fdproof.process import DEVNULL
from tests.core.child import in_child
from tests.process.children import table_in_child

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")

POOL = range(6)


@contextlib.contextmanager
def pool(numbers: list[int]) -> Iterator[list[fdproof.Descriptor]]:
    """Files with names of their own, around the given numbers."""
    with contextlib.ExitStack() as stack:
        files = []
        for index, number in enumerate(numbers):
            with fdproof.memfd(f"file-{index}") as file:
                files.append(stack.enter_context(file.duplicate(at_least=number)))
        yield files


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.integers(3, 30), min_size=len(POOL), max_size=len(POOL)),
    wanted=st.dictionaries(st.integers(0, 36), st.sampled_from(POOL), max_size=12),
    inheritable=st.sets(st.sampled_from(POOL)),
)
def test_any_files_at_any_numbers(
    tmp_path: Path, numbers: list[int], wanted: dict[int, int], inheritable: set[int]
) -> None:
    with pool(numbers) as files:
        keep = [index for index in inheritable if files[index].fileno() not in wanted]
        given_files = {number: files[index] for number, index in wanted.items()}
        standard = {name: DEVNULL for n, name in enumerate(_STREAMS) if n not in wanted}

        table = table_in_child(
            tmp_path / "table",
            files=given_files,
            inheritable=[files[index] for index in keep],
            **standard,
        )

        expected = dict.fromkeys(range(3), "/dev/null")
        expected |= {number: f"/memfd:file-{index}" for number, index in wanted.items()}
        expected |= {files[index].fileno(): f"/memfd:file-{index}" for index in keep}
        assert table == expected


_STREAMS = ("stdin", "stdout", "stderr")


def test_cycles_are_sorted_out(tmp_path: Path) -> None:
    with pool([10, 11, 12]) as (a, b, c):
        x, y, z = (one.fileno() for one in (a, b, c))

        table = table_in_child(tmp_path / "table", files={x: b, y: c, z: a}, stdin=DEVNULL)

    assert [table[number] for number in (x, y, z)] == [
        "/memfd:file-1",
        "/memfd:file-2",
        "/memfd:file-0",
    ]


def test_sources_stay_with_their_owners(tmp_path: Path) -> None:
    with fdproof.memfd("lent") as lent:
        table_in_child(tmp_path / "table", files={7: lent, 8: lent.fileno()}, stdin=DEVNULL)

        assert not lent.closed
        assert not lent.inheritable
        os.fstat(lent.fileno())


def test_an_inheritable_descriptor_that_was_not_given_stays_out(tmp_path: Path) -> None:
    with fdproof.memfd("careless", inheritable=True), fdproof.open("/", inheritable=True):
        table = table_in_child(tmp_path / "table", stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)

    assert table == dict.fromkeys(range(3), "/dev/null")


def test_stderr_follows_stdout(tmp_path: Path) -> None:
    with fdproof.memfd("log") as log:
        table = table_in_child(tmp_path / "table", stdin=DEVNULL, stdout=log, stderr=process.STDOUT)
        also = table_in_child(
            tmp_path / "table", stdin=DEVNULL, files={1: log}, stderr=process.STDOUT
        )

    assert table[1] == table[2] == also[1] == also[2] == "/memfd:log"


def test_standard_streams_that_are_closed_here_stay_closed(tmp_path: Path) -> None:
    def check() -> None:
        for number in (0, 1, 2):
            os.close(number)
        with fdproof.memfd("own") as own:
            # Number 0 is now this process's own file, which is none of the child's business.
            assert own.fileno() == 0
            assert table_in_child(tmp_path / "table", files={9: own}) == {9: "/memfd:own"}

    in_child(check)


def test_the_number_of_open_descriptors_does_not_matter(tmp_path: Path) -> None:
    def check() -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
        for _ in range(1000):
            os.dup(0)
        with fdproof.memfd("high") as file, file.duplicate(at_least=1500) as high:
            table = table_in_child(tmp_path / "table", files={4: high, 1900: high})
        assert table.keys() == {0, 1, 2, 4, 1900}

    in_child(check)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"files": {3: -1}}, r"files\[3\]: -1 is not a descriptor number"),
        ({"files": {-3: 1}}, "files: -3 is not"),
        ({"files": {1: 2}, "stdout": DEVNULL}, "files: 1 is stdout, which is given, too"),
        ({"files": {5: 2}, "inheritable": [5]}, "inheritable: files= places something else at 5"),
        ({"stdin": process.STDOUT}, "stdin: STDOUT is for stderr"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        process.spawn(["true"], **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["3", 1.5, True, object()])
def test_what_is_no_descriptor_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="takes a descriptor"):
        process.spawn(["true"], files={3: value})  # type: ignore[dict-item]


def test_a_descriptor_that_is_not_open_is_named() -> None:
    with pytest.raises(OSError, match=r"files: placing descriptor 999 at 7: Bad file") as caught:
        process.spawn(["true"], files={7: 999})

    assert caught.value.errno == 9


def test_a_number_beyond_the_limit_is_named() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    with pytest.raises(OSError, match="beyond the limit of open files"):
        process.spawn(["true"], files={limit: 2})


def test_a_closed_owner_is_refused() -> None:
    file = fdproof.memfd("closed")
    file.close()

    with pytest.raises(fdproof.ClosedError):
        process.spawn(["true"], files={7: file})
