"""AF_UNIX pairs: data in their three kinds, and what the end of one side does to the other."""

import errno
import os
import select
import socket

import pytest

from fdproof.model import Credentials, Kernel, Received, Rights, Task
from tests.model.failing import failing

STREAM, DATAGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
READABLE = select.POLLIN | select.POLLRDNORM
WRITABLE = select.POLLOUT | select.POLLWRNORM | select.POLLWRBAND
DONTWAIT, PEEK, TRUNC = socket.MSG_DONTWAIT, socket.MSG_PEEK, socket.MSG_TRUNC

every_kind = pytest.mark.parametrize("kind", [STREAM, DATAGRAM, SEQPACKET])
keeping_records = pytest.mark.parametrize("kind", [DATAGRAM, SEQPACKET])


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn()


@every_kind
def test_each_end_reads_what_the_other_wrote(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    assert (a, b) == (0, 1)
    assert task.write(a, b"to b") == 4
    assert task.write(b, b"to a") == 4
    assert task.read(b, 10) == b"to b"
    assert task.read(a, 10) == b"to a"


def test_socketpair_gives_close_on_exec_and_nonblocking_where_asked(task: Task) -> None:
    task.socketpair(STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    assert [entry.cloexec for entry in task.table().values()] == [True, True]
    assert task.fcntl(0, 3) == os.O_RDWR | os.O_NONBLOCK
    with failing(errno.EAGAIN):
        task.read(0, 1)


def test_socketpair_takes_raw_for_datagram_and_nothing_unknown(task: Task) -> None:
    a, b = task.socketpair(socket.SOCK_RAW)
    task.write(a, b"one")
    task.write(a, b"two")
    assert task.read(b, 10) == b"one"
    with failing(errno.ESOCKTNOSUPPORT):
        task.socketpair(9)
    with failing(errno.EINVAL):
        task.socketpair(STREAM | 0x100000)
    assert len(task.table()) == 2


def test_socketpair_needs_two_numbers_before_it_looks_at_the_kind(kernel: Kernel) -> None:
    task = kernel.spawn(rlimit_nofile=1)
    with failing(errno.EMFILE):
        task.socketpair(STREAM)
    with failing(errno.EMFILE):
        task.socketpair(9)
    assert task.table() == {}


def test_a_stream_has_no_records(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    task.write(a, b"one")
    task.write(a, b"two")
    assert task.read(b, 4) == b"onet"
    assert task.read(b, 4) == b"wo"


@keeping_records
def test_a_record_is_read_once_and_the_rest_of_it_is_lost(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    task.write(a, b"abcdef")
    task.write(a, b"next")
    received = task.recvmsg(b, 3)
    assert (received.data, received.control, received.flags) == (b"abc", (), TRUNC)
    assert task.read(b, 10) == b"next"


@keeping_records
def test_a_record_may_be_empty(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    assert task.write(a, b"") == 0
    assert task.poll(b) & READABLE
    assert task.read(b, 0) == b""  # reading nothing asks nobody
    assert task.recvmsg(b, 10, 0, DONTWAIT).data == b""
    with failing(errno.EAGAIN):
        task.recvmsg(b, 10, 0, DONTWAIT)


def test_an_empty_write_to_a_stream_leaves_nothing(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    assert task.write(a, b"") == 0
    with failing(errno.EAGAIN):
        task.recvmsg(b, 10, 0, DONTWAIT)


@every_kind
def test_peeking_leaves_the_data(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    task.write(a, b"data")
    assert task.recvmsg(b, 2, 0, PEEK).data == b"da"
    assert task.recvmsg(b, 9, 0, PEEK).data == b"data"
    assert task.recvmsg(b, 9).data == b"data"


@every_kind
def test_poll_tells_data_and_room(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    assert task.poll(b) == WRITABLE
    task.write(a, b"x")
    assert task.poll(b) == WRITABLE | READABLE
    task.read(b, 1)
    assert task.poll(b) == WRITABLE


@pytest.mark.parametrize("kind", [STREAM, SEQPACKET])
def test_a_connection_ends_when_the_other_end_is_closed(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    task.write(b, b"last")
    task.close(b)
    gone = select.POLLHUP | select.POLLRDHUP | READABLE | WRITABLE
    assert task.poll(a) == gone
    with failing(errno.EPIPE):
        task.sendmsg(a, b"x", flags=socket.MSG_NOSIGNAL)
    assert task.read(a, 10) == b"last"
    assert task.read(a, 10) == b""
    assert task.poll(a) == gone


def test_a_stream_that_is_closed_on_unread_data_is_reset_after_the_last_data(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    task.write(a, b"unread")
    task.write(b, b"last")
    task.close(b)
    assert task.poll(a) & select.POLLERR
    with failing(errno.EPIPE):
        task.sendmsg(a, b"x", flags=socket.MSG_NOSIGNAL)
    assert task.read(a, 10) == b"last"
    with failing(errno.ECONNRESET):
        task.read(a, 10)
    assert not task.poll(a) & select.POLLERR
    assert task.read(a, 10) == b""


def test_a_seqpacket_that_is_closed_on_unread_data_is_reset_at_the_next_call(task: Task) -> None:
    a, b = task.socketpair(SEQPACKET)
    task.write(a, b"unread")
    task.write(b, b"last")
    task.close(b)
    with failing(errno.ECONNRESET):
        task.sendmsg(a, b"x", flags=socket.MSG_NOSIGNAL)
    with failing(errno.EPIPE):
        task.sendmsg(a, b"x", flags=socket.MSG_NOSIGNAL)
    assert task.read(a, 10) == b"last"
    assert task.read(a, 10) == b""


@pytest.mark.parametrize(("unread", "reset"), [([b""], False), ([b"", b""], True), ([b"x"], True)])
def test_an_empty_record_in_front_resets_nothing(
    task: Task, unread: list[bytes], reset: bool
) -> None:
    a, b = task.socketpair(SEQPACKET)
    for data in unread:
        task.write(a, data)
    task.close(b)
    assert bool(task.poll(a) & select.POLLERR) is reset


def test_a_datagram_to_a_closed_end_is_refused_once_then_there_is_nobody(task: Task) -> None:
    a, b = task.socketpair(DATAGRAM)
    task.write(a, b"unread")
    task.write(b, b"last")
    task.close(b)
    assert task.poll(a) == READABLE | WRITABLE
    with failing(errno.ECONNREFUSED):
        task.write(a, b"x")
    with failing(errno.ENOTCONN):
        task.write(a, b"x")


def test_a_refused_datagram_loses_what_the_closed_end_had_sent(task: Task) -> None:
    a, b = task.socketpair(DATAGRAM)
    task.write(b, b"read")
    task.write(b, b"lost")
    task.close(b)
    assert task.read(a, 10) == b"read"
    with failing(errno.ECONNREFUSED):
        task.write(a, b"x")
    with failing(errno.EAGAIN):
        task.recvmsg(a, 10, 0, DONTWAIT)


@every_kind
def test_the_end_lives_as_long_as_any_descriptor_of_it(task: Task, kind: int) -> None:
    a, b = task.socketpair(kind)
    copy = task.dup(b)
    task.close(b)
    assert task.write(a, b"still") == 5
    assert task.read(copy, 10) == b"still"


@pytest.mark.parametrize(
    ("kind", "length", "messages", "polled"),
    [
        (STREAM, 100, 278, 70),
        (STREAM, 704, 167, 42),
        (STREAM, 705, 93, 24),
        (STREAM, 4096, 44, 11),
        (STREAM, 8000, 24, 6),
        (DATAGRAM, 0, 278, 70),
        (DATAGRAM, 3776, 49, 13),
        (DATAGRAM, 4096, 26, 7),
        (SEQPACKET, 16000, 13, 4),
    ],
)
def test_a_socket_is_full_when_the_kernel_has_accounted_for_its_buffer(
    task: Task, kind: int, length: int, messages: int, polled: int
) -> None:
    a, b = task.socketpair(kind | socket.SOCK_NONBLOCK)
    full: list[int] = []
    for number in range(messages):
        assert task.sendmsg(a, bytes(length)) == length
        if not task.poll(a) & select.POLLOUT:
            full.append(number + 1)
    assert full[0] == polled
    with failing(errno.EAGAIN):
        task.sendmsg(a, bytes(max(1, length)))
    for _ in range(messages):
        task.recvmsg(b, max(1, length))
    assert task.poll(a) & select.POLLOUT


# More data than the agents' memory has room for: as sent by a process of its own when this was written.
@pytest.mark.parametrize(
    ("kind", "length", "messages", "total"),
    [
        (STREAM, 20000, 11, 220000),
        (STREAM, 40000, 6, 236544),
        (STREAM, 100000, 3, 236544),
        (STREAM, 300000, 1, 219264),
        (DATAGRAM, 20000, 11, 220000),
        (DATAGRAM, 40000, 6, 240000),
        (DATAGRAM, 100000, 3, 300000),
    ],
)
def test_large_messages_fill_a_socket_page_by_page(
    kind: int, length: int, messages: int, total: int
) -> None:
    task = Kernel().spawn()
    a, _ = task.socketpair(kind | socket.SOCK_NONBLOCK)
    assert sum(task.sendmsg(a, bytes(length)) for _ in range(messages)) == total
    with failing(errno.EAGAIN):
        task.sendmsg(a, b"x")


def test_a_send_that_waits_goes_on_when_there_is_room(task: Task) -> None:
    a, b = task.socketpair(DATAGRAM)
    child = task.fork()
    for _ in range(13):
        task.write(a, bytes(8000))
    call = child.begin("write", a, b"last")
    assert not call.done
    # Linux wakes the sender when poll says that there is room, the model as soon as there is.
    while not task.poll(a) & select.POLLOUT:
        assert len(task.read(b, 9000)) == 8000
    assert call.result() == 4


def test_a_read_that_waits_gets_what_is_written(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    child = task.fork()
    call = child.begin("recvmsg", b, 10, 24)
    assert not call.done
    task.sendmsg(a, b"x", [Rights((a,))])
    assert call.result() == Received(b"x", (Rights((2,)),), 0)


def test_a_read_that_waits_hears_the_end(task: Task) -> None:
    a, b = task.socketpair(STREAM)
    child = task.fork()
    child.close(a)
    call = child.begin("read", b, 10)
    assert not call.done
    task.close(a)
    assert call.result() == b""


@keeping_records
def test_a_record_is_at_most_the_buffer_less_its_overhead(kind: int) -> None:
    task = Kernel().spawn()
    a, _ = task.socketpair(kind | socket.SOCK_NONBLOCK)
    with failing(errno.EMSGSIZE):
        task.sendmsg(a, bytes(212992 - 31))
    assert task.sendmsg(a, bytes(212992 - 32)) == 212992 - 32


@pytest.mark.parametrize("call", ["sendmsg", "recvmsg", "setsockopt", "getsockopt"])
def test_socket_calls_want_a_socket(task: Task, call: str) -> None:
    reading, _ = task.pipe2()
    path = task.open("/", os.O_PATH)
    arguments = {
        "sendmsg": (b"x",),
        "recvmsg": (1,),
        "setsockopt": (socket.SO_PASSCRED, 1),
        "getsockopt": (socket.SO_PASSCRED,),
    }[call]
    with failing(errno.ENOTSOCK):
        getattr(task, call)(reading, *arguments)
    for number in (path, 99, -1):
        with failing(errno.EBADF):
            getattr(task, call)(number, *arguments)


def test_a_socket_has_no_offset(task: Task) -> None:
    a, _ = task.socketpair()
    with failing(errno.ESPIPE):
        task.lseek(a, 0)


def test_options_begin_as_linux_has_them_and_unknown_ones_are_refused(task: Task) -> None:
    a, b = task.socketpair()
    names = (socket.SO_PASSCRED, 76, 83)
    assert [task.getsockopt(a, name) for name in names] == [0, 0, 1]
    for name in names:
        task.setsockopt(a, name, 2)
        assert task.getsockopt(a, name) == 1
        task.setsockopt(a, name, 0)
        assert task.getsockopt(a, name) == 0
        assert task.getsockopt(b, name) == (1 if name == 83 else 0)
    for name in (999, socket.SO_PEERCRED, 77):
        with failing(errno.ENOPROTOOPT):
            task.setsockopt(a, name, 1)
    with failing(errno.ENOPROTOOPT):
        task.getsockopt(a, 999)


@pytest.mark.root
def test_the_peer_of_a_pair_is_who_made_it(task: Task) -> None:
    a, _ = task.socketpair()
    child = task.fork()
    assert child.getsockopt(a, socket.SO_PEERCRED) == Credentials(task.getpid(), 0, 0)
    pidfd = child.getsockopt(a, 77)
    assert isinstance(pidfd, int)
    assert child.table()[pidfd].cloexec
    assert child.pidfd_info(pidfd).pid == task.getpid()


def test_out_of_band_data_has_no_place_in_records(task: Task) -> None:
    a, b = task.socketpair(DATAGRAM)
    with failing(errno.EOPNOTSUPP):
        task.sendmsg(a, b"x", flags=socket.MSG_OOB)
    with failing(errno.EOPNOTSUPP):
        task.recvmsg(b, 1, 0, socket.MSG_OOB)
