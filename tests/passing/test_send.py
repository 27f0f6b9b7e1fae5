"""send: what it takes, what it refuses and says, and that it waits as a Python socket does."""

import array
import errno
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fdproof
from fdproof import Descriptor, FlagError, passing
from fdproof.passing import Credentials
from tests.core.child import in_child
from tests.passing.raw import KINDS, SO_PASSRIGHTS, empty, pair, received
from tests.passing.surroundings import become_ordinary, io_uring

each_kind = pytest.mark.parametrize("kind", KINDS)
packets = pytest.mark.parametrize("kind", ["datagram", "seqpacket"])


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with pair() as (near, far):
        yield near, far


class HasFileno:
    """What is asked for its number when it is sent."""

    def __init__(self, number: Any) -> None:
        self.number = number

    def fileno(self) -> Any:
        return self.number


@each_kind
def test_the_receiver_gets_the_same_files_in_order_and_the_caller_keeps_its_own(kind: str) -> None:
    with pair(kind) as (near, far):
        with fdproof.memfd("one") as one, fdproof.memfd("two") as two:
            assert passing.send(near, b"data", [one, two, one]) == 4
            with received(far) as message:
                assert message.data == b"data"
                assert [one.same_file(number) for number in message.numbers] == [True, False, True]
                assert two.same_file(message.numbers[1])
            assert not one.closed
            assert not two.closed


@each_kind
def test_what_was_sent_outlives_the_callers_own(kind: str) -> None:
    with pair(kind) as (near, far):
        with fdproof.pipe() as ends:
            passing.send(near, b"x", [ends.second])
            ends.second.close()
            with received(far) as message:
                os.write(message.numbers[0], b"still")
            assert os.read(ends.first.fileno(), 5) == b"still"


@pytest.mark.parametrize(
    "given",
    [
        lambda file: [file],
        lambda file: (file,),
        lambda file: [file.fileno()],
        lambda file: [HasFileno(file.fileno())],
        lambda file: {file: "keys are iterable"},
        lambda file: (one for one in [file]),
        lambda file: array.array("i", [file.fileno()]),
    ],
    ids=["list", "tuple", "number", "fileno()", "dict", "generator", "array"],
)
def test_files_are_anything_with_numbers(
    given: Callable[[Descriptor], Any], ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    passing.send(ends[0], b"x", given(file))

    with received(ends[1]) as message:
        assert [file.same_file(number) for number in message.numbers] == [True]


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: s.fileno(), lambda s: HasFileno(s.fileno())]
)
def test_the_socket_is_anything_with_a_number(
    wrap: Callable[[socket.socket], Any],
    ends: tuple[socket.socket, socket.socket],
    file: Descriptor,
) -> None:
    passing.send(wrap(ends[0]), b"x", [file])

    with passing.receive(wrap(ends[1]), 1, 1) as message:
        assert message.files[0].same_file(file)


@pytest.mark.parametrize(
    "data", [b"bytes", bytearray(b"bytes"), memoryview(b"bytes"), array.array("B", b"bytes")]
)
def test_data_is_any_buffer(data: Any, ends: tuple[socket.socket, socket.socket]) -> None:
    assert passing.send(ends[0], data) == 5

    assert ends[1].recv(10) == b"bytes"


def test_the_most_that_one_message_carries_is_253(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    passing.send(ends[0], b"x", [file] * 253)
    with received(ends[1]) as message:
        assert len(message.numbers) == 253

    with pytest.raises(OSError, match=r"at most 253 descriptors, not 254: .*Channel") as refused:
        passing.send(ends[0], b"x", [file] * 254)
    assert refused.value.errno == errno.EINVAL
    assert empty(ends[1])


@pytest.mark.parametrize(
    ("files", "kind", "text"),
    [
        (3, TypeError, r"files: takes several descriptors, as in \[one, two\], not 3"),
        (None, TypeError, r"files: takes several descriptors, .* not None"),
        ("12", TypeError, r"files: takes several descriptors, .* not '12'"),
        (b"\1\2", TypeError, r"files: takes several descriptors, .* not b'\\x01\\x02'"),
        ([0, "a"], TypeError, r"files\[1\]: takes a descriptor .*, not 'a'"),
        ([0, None], TypeError, r"files\[1\]: takes a descriptor .*, not None"),
        ([True], TypeError, r"files\[0\]: takes an int, not True"),
        ([0, 1, -1], ValueError, r"files\[2\]: -1 is not between 0 and 2147483647"),
        ([2**40], ValueError, r"files\[0\]: 1099511627776 is not between"),
        ([HasFileno(-1)], ValueError, r"files\[0\]: -1 is not between"),
        ([HasFileno("x")], TypeError, r"files\[0\]: takes an int, not 'x'"),
        ([0, 999_999], OSError, r"files\[1\]: descriptor 999999 is not open"),
    ],
)
def test_what_is_no_descriptor_is_named_by_its_index(
    files: Any,
    kind: type[Exception],
    text: str,
    ends: tuple[socket.socket, socket.socket],
) -> None:
    with pytest.raises(kind, match=text) as refused:
        passing.send(ends[0], b"x", files)

    if isinstance(refused.value, OSError):
        assert refused.value.errno == errno.EBADF
    assert empty(ends[1])


def test_a_closed_descriptor_is_refused_before_anything_is_sent(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    closed = file.duplicate()
    closed.close()

    with pytest.raises(fdproof.ClosedError):
        passing.send(ends[0], b"x", [file, closed])
    assert empty(ends[1])


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "text"),
    [
        (("text",), {}, TypeError, "data: takes bytes or another buffer, not 'text'"),
        ((None,), {}, TypeError, "data: takes bytes or another buffer, not None"),
        ((memoryview(b"abc")[::2],), {}, BufferError, "not C-contiguous"),
        (
            (b"x",),
            {"credentials": (1, 2, 3)},
            TypeError,
            r"credentials: takes Credentials, not \(1",
        ),
        (
            (b"x",),
            {"credentials": Credentials(-1, 0, 0)},
            ValueError,
            "credentials.pid: -1 is not between",
        ),
        (
            (b"x",),
            {"credentials": Credentials(1, 2**32, 0)},
            ValueError,
            "credentials.uid: 4294967296 is not between",
        ),
        ((b"x",), {"address": 7}, TypeError, "int"),
        ((b"x",), {"address": "a\0b"}, ValueError, "address: .* contains a NUL byte"),
        ((b"x",), {"address": "a" * 108}, ValueError, "longer than the 107 bytes that fit"),
        (
            (b"x",),
            {"address": b"\0" + b"a" * 108},
            ValueError,
            "longer than the 108 bytes that fit",
        ),
    ],
)
def test_bad_arguments_are_named(
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    kind: type[Exception],
    text: str,
    ends: tuple[socket.socket, socket.socket],
) -> None:
    with pytest.raises(kind, match=text):
        passing.send(ends[0], *arguments, **options)
    assert empty(ends[1])


def test_a_stream_without_a_byte_is_refused_because_it_would_lose_them(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    for lost in ({"files": [file]}, {"credentials": Credentials.current()}):
        with pytest.raises(ValueError, match="data: a stream needs at least one byte"):
            passing.send(ends[0], b"", **lost)

    assert passing.send(ends[0], b"") == 0
    assert empty(ends[1])


@packets
def test_a_packet_without_a_byte_carries_them(kind: str, file: Descriptor) -> None:
    with pair(kind) as (near, far):
        assert passing.send(near, b"", [file]) == 0
        with received(far) as message:
            assert len(message.numbers) == 1


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: s.fileno()], ids=["socket", "number"])
@pytest.mark.parametrize("what", ["files", "credentials"])
def test_a_socket_that_is_no_unix_socket_is_refused_because_it_would_lose_them(
    what: str, wrap: Callable[[socket.socket], Any], file: Descriptor
) -> None:
    lost: dict[str, Any] = {
        "files": [file] if what == "files" else (),
        "credentials": Credentials.current() if what == "credentials" else None,
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as near:
            with listener.accept()[0] as far:
                with pytest.raises(ValueError, match=r"sock: descriptor \d+ is no Unix socket"):
                    passing.send(wrap(near), b"x", **lost)
                assert empty(far)

                assert passing.send(wrap(near), b"plain") == 5
                assert passing.receive(far, 10).data == b"plain"


def test_what_is_no_socket_is_said_by_the_kernel(file: Descriptor) -> None:
    with pytest.raises(OSError, match="Socket operation on non-socket") as refused:
        passing.send(file, b"x", [file])
    assert refused.value.errno == errno.ENOTSOCK
    with pytest.raises(OSError, match="sock: descriptor 999999 is not open") as refused:
        passing.send(999_999, b"x", [file])
    assert refused.value.errno == errno.EBADF


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (socket.MSG_PEEK, r"MSG_PEEK does not belong here: pass peek=True to receive\(\)"),
        (socket.MSG_OOB, "MSG_OOB does not belong here: urgent bytes are received without"),
        (socket.MSG_WAITALL, r"MSG_WAITALL does not belong here: it belongs to receive\(\)"),
        (socket.MSG_CMSG_CLOEXEC, "MSG_CMSG_CLOEXEC does not belong here: .* always set"),
        (socket.MSG_MORE, "0x8000 does not belong here: known are MSG_DONTWAIT"),
        (socket.MSG_DONTWAIT | socket.MSG_EOR, "0x80 does not belong here"),
        (-1, "-1 is no flag of a message"),
        (True, "True is no flag of a message"),
        ("", "'' is no flag of a message"),
        (None, "None is no flag of a message"),
    ],
)
def test_flags_that_do_not_belong_are_refused_by_name(
    flags: Any, text: str, ends: tuple[socket.socket, socket.socket]
) -> None:
    with pytest.raises(FlagError, match=text):
        passing.send(ends[0], b"x", flags=flags)
    assert empty(ends[1])


def test_flags_that_belong_are_taken(ends: tuple[socket.socket, socket.socket]) -> None:
    passing.send(ends[0], b"a", flags=socket.MSG_DONTWAIT)
    passing.send(ends[0], b"b", flags=socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)

    assert ends[1].recv(10) == b"ab"


# Credentials.


def test_credentials_and_descriptors_travel_together(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    own = Credentials(os.getpid(), os.geteuid(), os.getegid())

    passing.send(ends[0], b"x", [file], credentials=own)

    assert own == Credentials.current()
    with received(ends[1]) as message:
        assert message.credentials == (own.pid, own.uid, own.gid)
        assert len(message.numbers) == 1


def test_credentials_of_others_are_eperm_with_the_reason(file: Descriptor) -> None:
    def check() -> None:
        become_ordinary()
        with pair() as (near, far):
            stated = Credentials(os.getpid(), 0, 0)
            with pytest.raises(PermissionError) as refused:
                passing.send(near, b"x", credentials=stated)
            assert refused.value.errno == errno.EPERM
            assert f"may not state {stated}" in str(refused.value)
            assert "SO_PASSRIGHTS" not in str(refused.value)
            with pytest.raises(PermissionError, match=r"may not state .* or the receiver takes no"):
                passing.send(near, b"x", [file], credentials=stated)
            assert empty(far)

    in_child(check)


@pytest.mark.root
def test_root_may_state_others(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    stated = Credentials(os.getppid(), 12_345, 2**32 - 2)

    passing.send(ends[0], b"x", credentials=stated)

    assert passing.receive(ends[1], 1).credentials == stated
    with pytest.raises(ProcessLookupError):
        passing.send(ends[0], b"x", credentials=Credentials(2**30, 0, 0))


# What the kernel refuses, explained.


@pytest.mark.requires_kernel("SO_PASSRIGHTS")
def test_a_receiver_that_takes_no_descriptors_is_eperm_with_the_reason(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    ends[1].setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)

    with pytest.raises(
        PermissionError, match=r"takes no descriptors \(SO_PASSRIGHTS is off"
    ) as refused:
        passing.send(ends[0], b"x", [file])

    assert refused.value.errno == errno.EPERM
    assert empty(ends[1])
    assert passing.send(ends[0], b"x") == 1


@pytest.mark.requires_kernel("io_uring")
def test_an_io_uring_is_einval_with_its_index(
    ends: tuple[socket.socket, socket.socket], file: Descriptor
) -> None:
    with io_uring() as ring:
        told = rf"files\[1\]: descriptor {ring.fileno()} is an io_uring, which no message carries"
        with pytest.raises(OSError, match=told) as refused:
            passing.send(ends[0], b"x", [file, ring])

    assert refused.value.errno == errno.EINVAL
    assert empty(ends[1])


def test_too_many_in_flight_is_etoomanyrefs_with_the_limit(file: Descriptor) -> None:
    def check() -> None:
        become_ordinary()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        with pair("seqpacket") as (near, far):
            passing.send(near, b"x", [file] * 65)
            with pytest.raises(
                OSError, match=r"under way, .* more than 64, .*\(ulimit -n\)"
            ) as refused:
                passing.send(near, b"x", [file])
            assert refused.value.errno == errno.ETOOMANYREFS
            with received(far):
                pass
            passing.send(near, b"x", [file])

    in_child(check)


def test_a_peer_that_is_gone_is_epipe_and_no_signal(file: Descriptor) -> None:
    def check() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        with pair() as (near, far):
            far.close()
            for files in ([], [file]):
                with pytest.raises(BrokenPipeError):
                    passing.send(near, b"x", files)

    in_child(check)


# Addresses.


@pytest.mark.parametrize("kind", ["path", "bytes", "abstract"])
def test_a_datagram_goes_to_an_address(kind: str, tmp_path: Path, file: Descriptor) -> None:
    address: Any = {
        "path": str(tmp_path / "s"),
        "bytes": os.fsencode(tmp_path / "s"),
        "abstract": f"\0fdproof {os.getpid()}".encode(),
    }[kind]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
            far.bind(address)
            assert passing.send(near, b"to you", [file], address=address) == 6
            with received(far) as message:
                assert message.data == b"to you"
                assert file.same_file(message.numbers[0])


@pytest.mark.parametrize("length", [106, 107])
def test_the_longest_path_fits(length: int, file: Descriptor, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far:
            os.chdir(tmp_path)
            far.bind("p" * length)
            passing.send(near, b"x", [file], address="p" * length)
            with received(far) as message:
                assert len(message.numbers) == 1


@pytest.fixture(autouse=True)
def _same_directory() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


def test_an_address_where_nobody_listens_is_in_the_error(tmp_path: Path, file: Descriptor) -> None:
    where = str(tmp_path / "nobody")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
        with pytest.raises(FileNotFoundError) as refused:
            passing.send(near, b"x", [file], address=where)
        assert refused.value.filename == where
        with pytest.raises(OSError, match="not connected") as unconnected:
            passing.send(near, b"x", [file])
    assert unconnected.value.errno == errno.ENOTCONN
