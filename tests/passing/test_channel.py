"""Channel: whole messages or nothing, with as many descriptors as there are."""

import contextlib
import errno
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fdproof
from fdproof import ClosedError, Descriptor, StateError, TruncatedError, passing
from fdproof.passing import Channel
from fdproof.passing._framing import Outgoing
from tests.core.boundaries import sweep
from tests.core.child import in_child
from tests.core.full_table import limit
from tests.passing.surroundings import become_ordinary
from tests.process.children import until

MOST = 2000


@pytest.fixture
def file() -> Iterator[Descriptor]:
    with fdproof.memfd("sent") as owner:
        yield owner


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    near, far = Channel.pair()
    with near, far:
        yield near, far


@pytest.fixture
def room() -> Iterator[None]:
    """A table with room for the largest messages."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2 * MOST)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def sending(channel: Channel, *messages: tuple[bytes, list[Descriptor]]) -> Iterator[None]:
    """A thread that sends the messages, since none may fit without a reader."""
    failed: list[BaseException] = []

    def send() -> None:
        try:
            for data, files in messages:
                channel.send(data, files)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failed, failed


def inode(file: Descriptor) -> int:
    return os.fstat(file.fileno()).st_ino


sizes = st.one_of(
    st.integers(0, 40),
    st.sampled_from([65_535, 65_536, 65_537, 262_144, 262_145, 1_000_000]),
)
counts = st.one_of(
    st.integers(0, 5), st.sampled_from([252, 253, 254, 506, 507]), st.integers(0, MOST)
)
messages = st.lists(st.tuples(sizes, counts), min_size=1, max_size=4)


@pytest.mark.usefixtures("room")
@settings(max_examples=40)
@example([(0, 0)], 4608)
@example([(0, MOST), (1, 1), (0, 254)], 4608)
@given(messages, st.sampled_from([4608, 10_000, 212_992]))
def test_what_is_received_is_what_was_sent(
    messages: list[tuple[int, int]], buffer_bytes: int
) -> None:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    with Channel(near) as one, Channel(far, max_files=MOST) as other, contextlib.ExitStack() as own:
        pool = [own.enter_context(fdproof.memfd(str(number))) for number in range(7)]
        inodes = [inode(file) for file in pool]
        sent = [
            (os.urandom(size), [pool[(index * index + size) % 7] for index in range(count)])
            for size, count in messages
        ]
        with sending(one, *sent):
            for data, files in sent:
                with other.receive() as message:
                    assert message.data == data
                    assert [inode(file) for file in message.files] == [
                        inodes[pool.index(file)] for file in files
                    ]
                    assert not any(file.inheritable for file in message.files)
        one.end_sending()
        with pytest.raises(EOFError):
            other.receive()


def test_both_directions_at_once(ends: tuple[Channel, Channel], file: Descriptor) -> None:
    near, far = ends
    large = bytes(3_000_000)
    with sending(near, (large, [file] * 600)), sending(far, (large, [file] * 300)):
        with near.receive() as one, far.receive() as other:
            assert (len(one.files), len(other.files)) == (300, 600)


def test_a_channel_takes_the_socket_over(file: Descriptor) -> None:
    near, far = socket.socketpair()
    with fdproof.Descriptor(far) as owned:
        with Channel(near) as one, Channel(owned) as other:
            assert (near.fileno(), owned.closed) == (-1, True)
            assert not one.closed
            one.send(b"here", [file])
            with other.receive(timeout=0) as message:
                assert message.data == b"here"
        assert one.closed
        assert repr(one) == "<fdproof.passing.Channel closed>"
        one.close()
        for call in (one.fileno, one.__enter__, one.receive, one.end_sending):
            with pytest.raises(ClosedError):
                call()
        with pytest.raises(ClosedError):
            one.send(b"gone")


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
        (socket.AF_INET, socket.SOCK_STREAM),
    ],
)
def test_another_kind_of_socket_stays_where_it_was(family: int, kind: int) -> None:
    with socket.socket(family, kind) as sock:
        with pytest.raises(ValueError, match=rf"^sock: descriptor {sock.fileno()} is no Unix str"):
            Channel(sock)
        assert sock.fileno() >= 0


def test_what_is_no_connection_is_refused(file: Descriptor) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(b"\0fdproof-test-%d" % os.getpid())
        sock.listen()
        with pytest.raises(ValueError, match="listens: a Channel takes the socket that accept"):
            Channel(sock)
    with pytest.raises(OSError, match=os.strerror(errno.ENOTSOCK)) as caught:
        Channel(file)
    assert caught.value.errno == errno.ENOTSOCK
    assert not file.closed
    with pytest.raises(TypeError, match=r"^sock: takes a descriptor"):
        Channel("socket")  # type: ignore[arg-type]
    with Channel(socket.socket(socket.AF_UNIX)) as alone:
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            alone.send(b"x")


@pytest.mark.parametrize("name", ["max_bytes", "max_files"])
def test_a_limit_is_a_number(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: takes a number from 0 on, not -1$"):
        Channel.pair(**{name: -1})


def test_bad_arguments_send_nothing(ends: tuple[Channel, Channel], file: Descriptor) -> None:
    near, far = ends
    with fdproof.memfd("closed") as closed:
        pass
    for files, error, match in (
        ([*[file] * 300, 9999], OSError, r"files\[300\]: descriptor 9999 is not open"),
        ([file, closed], ClosedError, "closed"),
        ([file, "x"], TypeError, r"^files\[1\]: takes a descriptor"),
        (7, TypeError, r"^files: takes several descriptors, as in \[one, two\], not 7$"),
    ):
        with pytest.raises(error, match=match):
            near.send(b"x", files)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^data: takes bytes or another buffer, not 'text'$"):
        near.send("text")  # type: ignore[arg-type]
    for call in (near.receive, lambda timeout: near.send(b"x", timeout=timeout)):
        with pytest.raises(ValueError, match=r"^timeout: takes None or seconds from 0 on, not -1$"):
            call(timeout=-1)

    with pytest.raises(TimeoutError, match=r"^no message has come within 0 s$"):
        far.receive(timeout=0)
    near.send(memoryview(b"a buffer"), iter((file, file.fileno())))
    with far.receive() as message:
        assert (message.data, len(message.files)) == (b"a buffer", 2)


def test_the_senders_identity_comes_with_the_message(
    ends: tuple[Channel, Channel], file: Descriptor
) -> None:
    near, far = ends
    with socket.socket(fileno=os.dup(far.fileno())) as options:
        options.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    with sending(near, (bytes(500_000), [file] * 600)), far.receive() as message:
        assert message.credentials == passing.Credentials.current()
        assert len(message.files) == 600


# The end of a connection.


def test_the_end_is_seen_after_the_last_message(file: Descriptor) -> None:
    near, far = Channel.pair()
    with far:
        with near:
            near.send(b"last", [file])
        with far.receive() as message:
            assert message.data == b"last"
        for _ in range(2):
            with pytest.raises(EOFError, match="the peer has closed its end"):
                far.receive()
        with pytest.raises(BrokenPipeError):
            far.send(b"x")


def test_half_of_a_connection_is_closed(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    near.send(b"before")
    near.end_sending()
    with pytest.raises(BrokenPipeError):
        near.send(b"after")
    with far.receive() as message:
        assert message.data == b"before"
    far.send(b"answer")
    near.end_receiving()
    with pytest.raises(BrokenPipeError):
        far.send(b"another")
    with near.receive() as message:
        assert message.data == b"answer"
    for channel in ends:
        with pytest.raises(EOFError):
            channel.receive()


def test_a_peer_that_left_messages_unread_is_told_once(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    near.send(b"unread")
    far.close()
    with pytest.raises(ConnectionResetError):
        near.receive()
    with pytest.raises(EOFError):
        near.receive()


PARTS = 5


@pytest.mark.parametrize("count", range(PARTS + 1))
def test_a_peer_that_dies_after_some_parts_leaves_nothing(count: int, file: Descriptor) -> None:
    near, far = Channel.pair()
    with far:
        pid = os.fork()
        if pid == 0:
            far.close()
            outgoing = Outgoing(b"the data", [file] * 800)
            assert len(outgoing._parts) == PARTS
            while len(outgoing._parts) > PARTS - count:
                data, files = outgoing._parts.popleft()
                passing.send(near, data, files)
            os._exit(0)
        near.close()
        os.waitpid(pid, 0)
        if count == 0:
            with pytest.raises(EOFError):
                far.receive()
        elif count == PARTS:
            with far.receive() as message:
                assert (message.data, len(message.files)) == (b"the data", 800)
        else:
            with pytest.raises(ConnectionResetError, match="in the middle of a message"):
                far.receive()
            with pytest.raises(StateError, match="because the peer went away in the middle"):
                far.receive()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_peer_that_dies_instead_of_reading_is_noticed(count: int, file: Descriptor) -> None:
    near, far = Channel.pair()
    with near:
        pid = os.fork()
        if pid == 0:
            near.close()
            for _ in range(count):
                passing.receive(far, 1 << 18, 253).close()
            os._exit(0)
        far.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            while True:
                near.send(bytes(1_000_000), [file] * 600)
        os.waitpid(pid, 0)


# Time, cancelling and interrupts.


def test_a_receive_that_ran_out_of_time_goes_on(
    ends: tuple[Channel, Channel], file: Descriptor
) -> None:
    near, far = ends
    outgoing = Outgoing(b"data", [file] * 600)
    while outgoing._parts:
        with pytest.raises(TimeoutError):
            far.receive(timeout=0)
        passing.send(near, *outgoing._parts.popleft())
    with far.receive(timeout=0) as message:
        assert (message.data, len(message.files)) == (b"data", 600)


def test_closing_drops_half_a_message(ends: tuple[Channel, Channel], file: Descriptor) -> None:
    near, far = ends
    passing.send(near, *Outgoing(b"data", [file] * 600)._parts[0])
    with pytest.raises(TimeoutError):
        far.receive(timeout=0)
    assert len(far._incoming._now.files) == 253
    far.close()
    assert far._incoming._now.files == []


def test_a_send_that_ran_out_of_time_before_the_first_byte_changes_nothing(
    ends: tuple[Channel, Channel],
) -> None:
    near, far = ends
    sent = 0
    complaint = "the peer has not made room for the message within 0 s"
    with pytest.raises(TimeoutError, match=complaint):  # noqa: PT012
        while True:
            near.send(bytes(1000), timeout=0)
            sent += 1
    for _ in range(sent):
        assert len(far.receive().data) == 1000
    near.send(b"after")
    assert far.receive().data == b"after"


def test_a_send_that_ran_out_of_time_in_the_middle_ends_the_stream(
    ends: tuple[Channel, Channel], file: Descriptor
) -> None:
    near, far = ends
    with pytest.raises(TimeoutError):
        near.send(bytes(10_000_000), [file] * 5, timeout=0)
    for _ in range(2):
        with pytest.raises(StateError, match="because a message was cut off"):
            near.send(b"x")
    with pytest.raises(ConnectionResetError):
        far.receive()
    far.send(b"the other way works")
    assert near.receive().data == b"the other way works"


class AlarmError(Exception):
    """Raised by a signal handler, as programs do that limit the time of a call."""


def test_a_signal_handler_that_raises_cuts_a_message_off(ends: tuple[Channel, Channel]) -> None:
    def ring(*_: object) -> None:
        raise AlarmError

    near, far = ends
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(AlarmError):
            near.send(bytes(10_000_000))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(AlarmError):
            near.receive()
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(StateError):
        near.send(b"x")
    far.send(b"not disturbed")
    assert near.receive().data == b"not disturbed"


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_an_interrupt_anywhere_leaves_no_descriptor_and_no_wrong_message(file: Descriptor) -> None:
    def once() -> None:
        near, far = Channel.pair()
        with near, far:
            try:
                near.send(b"first", [file] * 300)
                with far.receive(timeout=0) as message:
                    assert (message.data, len(message.files)) == (b"first", 300)
            except KeyboardInterrupt:
                with contextlib.suppress(StateError, BrokenPipeError):
                    near.send(b"second", [file])
                while True:
                    try:
                        with far.receive(timeout=0) as message:
                            assert (message.data, len(message.files)) in (
                                (b"first", 300),
                                (b"second", 1),
                            )
                    except (StateError, EOFError, ConnectionResetError, TimeoutError):
                        break
                raise

    found = sweep(once)

    assert found.boundaries > 300
    assert found.damage == [], str(found)


# Limits of the kernel.


def test_a_table_that_fills_up_half_way_is_told_with_what_came(file: Descriptor) -> None:
    def check() -> None:
        near, far = Channel.pair()
        with near, far:
            near.send(b"data", [file] * 600)
            limit(400)
            with pytest.raises(TruncatedError) as caught:
                far.receive()
            with caught.value as error:
                assert (error.reason, error.came, error.asked) == ("limit", 400, 600)
                assert len(error.message.files) == 400
                assert inode(error.message.files[399]) == inode(file)
                assert "400 of the 600 descriptors of a message arrived" in str(error)
                assert "ulimit -n" in str(error)
            with pytest.raises(StateError, match="because a part of a message was lost"):
                far.receive()

    in_child(check)


def test_a_table_that_is_full_at_the_first_part_is_told_too(file: Descriptor) -> None:
    def check() -> None:
        near, far = Channel.pair()
        with near, far:
            near.send(b"data", [file] * 600)
            limit(10)
            with pytest.raises(TruncatedError) as caught:
                far.receive()
            with caught.value as error:
                assert (error.reason, error.came, error.asked) == ("limit", 10, 600)

    in_child(check)


def test_too_many_under_way_before_the_first_byte_changes_nothing(file: Descriptor) -> None:
    def check() -> None:
        become_ordinary()
        near, far = Channel.pair()
        other, reader = Channel.pair()
        with near, far, other, reader:
            limit(100)
            other.send(b"", [file] * 200)
            with pytest.raises(OSError, match="too many descriptors of this user") as caught:
                near.send(b"x", [file])
            assert caught.value.errno == errno.ETOOMANYREFS
            near.send(b"without")
            assert far.receive().data == b"without"

    in_child(check)


def test_too_many_under_way_in_the_middle_cuts_the_message_off(file: Descriptor) -> None:
    def check() -> None:
        become_ordinary()
        near, far = Channel.pair()
        with near, far:
            limit(300)
            with pytest.raises(OSError, match="too many descriptors of this user") as caught:
                near.send(b"x", [file] * 900)
            assert caught.value.errno == errno.ETOOMANYREFS
            with pytest.raises(StateError):
                near.send(b"x")
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            with pytest.raises(ConnectionResetError):
                far.receive()

    in_child(check)


# One at a time.


@pytest.mark.parametrize("what", ["sends", "receives"])
def test_a_second_thread_is_refused(what: str, ends: tuple[Channel, Channel]) -> None:
    near, far = ends

    def call(timeout: float | None = None) -> None:
        if what == "sends":
            near.send(bytes(10_000_000), timeout=timeout)
        else:
            near.receive(timeout=timeout)

    def run() -> None:
        with pytest.raises((BrokenPipeError, EOFError)):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until((near._sending if what == "sends" else near._receiving).locked)
        with pytest.raises(StateError, match=f"^somebody else {what} at this channel"):
            call(0)
    finally:
        far.end_receiving()
        far.end_sending()
        thread.join()
