"""listeners: what a service manager hands over is taken whole, once, and by nobody else."""

import errno
import os
import socket
from collections.abc import Iterator

import pytest

import fdproof
from fdproof import handover
from tests.handover.children import run

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


TAKE = "with handover.listeners() as handed: result = [kinds(handed), table(), dict(os.environ)]"


def test_sockets_come_with_their_names_and_kinds(listener: socket.socket) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as datagrams,
        fdproof.socketpair(type=socket.SOCK_SEQPACKET) as packets,
        fdproof.memfd("state") as memory,
    ):
        found, _, _ = run(
            TAKE,
            {3: listener, 4: datagrams, 5: packets.first, 6: memory},
            LISTEN_FDS="4",
            LISTEN_FDNAMES="web:dns:web:state",
        )

    assert found == [
        ["web", socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, True],
        ["dns", socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, False],
        ["web", socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, False],
        ["state", None, None, None, False],
    ]


def test_a_taken_socket_is_the_one_that_was_handed_over(listener: socket.socket) -> None:
    program = """
with handover.listeners() as handed:
    sock = handed.take_socket("unknown")
with sock:
    result = [sock.getsockname(), sock.get_inheritable(), sock.fileno(), len(handed)]
"""
    assert run(program, {3: listener}, LISTEN_FDS="1") == [
        list(listener.getsockname()),
        False,
        3,
        0,
    ]


def test_what_was_not_taken_is_closed_and_no_child_inherits_it(listener: socket.socket) -> None:
    program = """
import subprocess
handed = handover.listeners()
inherited = subprocess.run(["ls", "/proc/self/fd"], close_fds=False, capture_output=True).stdout
handed.close()
handed.close()
result = [inherited.split()[:5].count(b"4"), table()]
"""
    assert run(program, {3: listener, 4: listener, 7: listener}, LISTEN_FDS="2") == [
        0,
        [0, 1, 2, 7],
    ]


def test_what_cannot_have_come_through_the_exec_is_left_alone(listener: socket.socket) -> None:
    """Somebody has closed 4, and something else of the program got the number."""
    program = """
os.close(4)
mine = socket.socket()
try:
    handover.listeners()
except OSError as error:
    result = [mine.fileno(), error.errno, str(error), table()]
mine.close()
"""
    assert run(program, {3: listener, 4: listener}, LISTEN_FDS="2") == [
        4,
        errno.EBADF,
        (
            "[Errno 9] LISTEN_FDS: announces 2 from 3 on, but descriptor 4 is close-on-exec: it was "
            "opened, or taken, since this program began"
        ),
        [0, 1, 2, 3, 4],
    ]


def test_the_variables_are_removed(listener: socket.socket) -> None:
    _, _, environment = run(TAKE, {3: listener}, LISTEN_FDS="1", LISTEN_FDNAMES="web")

    assert not [name for name in environment if name.startswith("LISTEN_")]


def test_the_variables_stay_if_asked_and_a_second_call_finds_nothing_all_the_same(
    listener: socket.socket,
) -> None:
    program = """
with handover.listeners(keep_environment=True) as first, handover.listeners() as second:
    result = [len(first), len(second), table()]
"""
    assert run(program, {3: listener}, LISTEN_FDS="1") == [1, 0, [0, 1, 2, 3]]


def test_a_forked_child_takes_nothing(listener: socket.socket) -> None:
    program = """
handed = handover.listeners(keep_environment=True)
pid = os.fork()
if pid == 0:
    os._exit(len(handover.listeners()))
result = os.waitpid(pid, 0)[1]
handed.close()
"""
    assert run(program, {3: listener}, LISTEN_FDS="1") == 0


def test_without_variables_there_is_nothing() -> None:
    assert run(TAKE, pid_variable=None)[:2] == [[], [0, 1, 2]]


@pytest.mark.parametrize("variables", [{"LISTEN_PID": "1"}, {}])
def test_for_another_process_there_is_nothing_and_nothing_is_touched(
    listener: socket.socket, variables: dict[str, str]
) -> None:
    found, table, _ = run(TAKE, {3: listener}, pid_variable=None, LISTEN_FDS="1", **variables)

    assert found == []
    assert 3 in table


MALFORMED = {
    "LISTEN_FDS: '' is not a number between 0 and 2147483644": {"LISTEN_FDS": ""},
    "LISTEN_FDS: '-1' is not": {"LISTEN_FDS": "-1"},
    "LISTEN_FDS: ' 1' is not": {"LISTEN_FDS": " 1"},
    "LISTEN_FDS: '1x' is not": {"LISTEN_FDS": "1x"},
    "LISTEN_FDS: '²' is not": {"LISTEN_FDS": "²"},
    "LISTEN_FDS: '2147483645' is not": {"LISTEN_FDS": "2147483645"},
    f"LISTEN_FDS: '{'9' * 5000}' is not": {"LISTEN_FDS": "9" * 5000},
    "LISTEN_FDS: announces 3 from 3 on, but descriptor 5 is not open": {
        "LISTEN_FDS": "3",
        "LISTEN_FDNAMES": "a:b:c",
    },
    "LISTEN_FDS: announces 2147483644 from 3 on, but descriptor 5 is not open": {
        "LISTEN_FDS": "2147483644",
        "LISTEN_FDNAMES": None,
    },
    "LISTEN_FDNAMES: 'a' has 1 names for 2 descriptors (LISTEN_FDS)": {"LISTEN_FDNAMES": "a"},
    "LISTEN_FDNAMES: 'a:b:' has 3 names for 2 descriptors": {"LISTEN_FDNAMES": "a:b:"},
    "LISTEN_FDNAMES: 'a:b' has 2 names for 0 descriptors": {"LISTEN_FDS": "0"},
    "LISTEN_PID: 'me' is not a number between 1 and 2147483647": {"LISTEN_PID": "me"},
    "LISTEN_PID: '0' is not": {"LISTEN_PID": "0"},
    "LISTEN_PIDFDID: 'x' is not a number between 0 and": {"LISTEN_PIDFDID": "x"},
}


def test_what_cannot_be_is_refused_and_nothing_is_taken(listener: socket.socket) -> None:
    program = """
result = []
good = dict(os.environ)
for changes in arguments:
    os.environ.clear()
    os.environ.update({**good, **{name: value for name, value in changes.items() if value is not None}})
    for name, value in changes.items():
        if value is None:
            del os.environ[name]
    try:
        handover.listeners()
    except (OSError, ValueError) as error:
        result.append([str(error), table(), "LISTEN_FDS" in os.environ, os.get_inheritable(3)])
os.environ.clear()
os.environ.update(good)
with handover.listeners() as handed:
    result.append(len(handed))
"""
    *refused, taken = run(
        program,
        {3: listener, 4: listener},
        arguments=list(MALFORMED.values()),
        LISTEN_FDS="2",
        LISTEN_FDNAMES="a:b",
    )

    assert taken == 2
    assert len(refused) == len(MALFORMED)
    for (message, *state), expected in zip(refused, MALFORMED, strict=True):
        assert expected in message
        assert state == [[0, 1, 2, 3, 4], True, True]


@pytest.mark.requires_kernel("pidfs")
def test_the_identity_of_the_pidfd_counts_where_it_is_told(listener: socket.socket) -> None:
    program = """
from fdproof.process import Process
with Process.current() as me:
    os.environ["LISTEN_PIDFDID"] = str(os.fstat(me.fileno()).st_ino + arguments)
with handover.listeners() as handed:
    result = [len(handed), table()]
"""
    assert run(program, {3: listener}, arguments=0, LISTEN_FDS="1") == [1, [0, 1, 2, 3]]
    assert run(program, {3: listener}, arguments=1, LISTEN_FDS="1") == [0, [0, 1, 2, 3]]


def test_many_are_taken_in_order() -> None:
    pairs = [fdproof.pipe() for _ in range(100)]
    program = """
with handover.listeners() as handed:
    result = [[e.name for e in handed], [handed.take(e).detach() for e in handed]]
"""
    found = run(
        program,
        {3 + index: pair.first for index, pair in enumerate(pairs)},
        LISTEN_FDS="100",
        LISTEN_FDNAMES=":".join(map(str, range(100))),
    )
    for pair in pairs:
        pair.close()

    assert found == [[str(index) for index in range(100)], list(range(3, 103))]


def test_this_process_was_handed_nothing() -> None:
    assert "LISTEN_PID" not in os.environ
    with handover.listeners() as handed:
        assert len(handed) == 0
