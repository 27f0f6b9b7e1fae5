"""The example servers: replaced from outside and by SIGHUP, with what their clients see of it."""

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from fdproof import process
from fdproof.handover import take
from fdproof.process import DEVNULL, PIPE, Process
from tests.process.children import until

pytestmark = pytest.mark.requires_kernel("SO_PASSPIDFD", "SO_PEERPIDFD", "close_range")

EXAMPLES = Path(__file__).parents[2] / "examples"

each_server = pytest.mark.parametrize("server", ["handover_asyncio.py", "handover_uvicorn.py"])


@contextmanager
def running(server: str, place: Path, grace: float = 20) -> Iterator[tuple[Process, int]]:
    """A server that has said that it serves, and its port; stopped at the end, if it still runs."""
    options = ["--place", str(place), "--grace", str(grace)]
    argv = [sys.executable, str(EXAMPLES / server), *options]
    with process.spawn(argv, stdout=PIPE) as child:
        pid, port = told(child)
        assert pid == child.pid
        yield child, port
        child.terminate()


def told(child: Process) -> tuple[int, int]:
    """Who serves, and the port, as the next line of a server says."""
    assert child.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(child.stdout.fileno(), 1)
        assert more, line
        line += more
    found = re.fullmatch(rb"(\d+) serves port (\d+)\n", line)
    assert found, line
    return int(found[1]), int(found[2])


class Client:
    """A client that keeps its connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.answers = self.sock.makefile("rb")

    def send(self, request: bytes = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n") -> None:
        self.sock.sendall(request)

    def receive(self) -> tuple[int, bool]:
        """Who answers, and whether the connection stays."""
        assert self.answers.readline() == b"HTTP/1.1 200 OK\r\n"
        headers = {}
        while (line := self.answers.readline()) != b"\r\n":
            name, _, value = line.decode().rstrip().lower().partition(": ")
            headers[name] = value
        body = self.answers.read(int(headers["content-length"]))
        return int(body.split()[-1]), headers.get("connection") != "close"

    def ask(self) -> tuple[int, bool]:
        self.send()
        return self.receive()

    def close(self) -> None:
        self.answers.close()
        self.sock.close()


@contextmanager
def clients(port: int, count: int) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Client(port))) for _ in range(count)]


def who_answers(port: int) -> int:
    """Who answers a client that comes, asks and goes."""
    with closing(Client(port)) as client:
        return client.ask()[0]


@each_server
def test_a_second_start_takes_over(server: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with running(server, place) as (first, port), clients(port, 2) as (keeps, half):
        assert keeps.ask() == (first.pid, True)
        half.send(b"GET / HTTP/1.1\r\nHost: here\r\n")
        with running(server, place) as (second, same):
            assert same == port
            assert who_answers(port) == second.pid
            # What is in flight is finished, and who keeps a connection is told to make a new one.
            half.send(b"\r\n")
            assert half.receive() == (first.pid, False)
            assert keeps.ask() == (first.pid, False)
            assert first.wait(20) == 0
            assert who_answers(port) == second.pid
    assert second.returncode == 0
    assert not place.exists()


@each_server
def test_an_idle_connection_does_not_keep_a_server_that_was_replaced(
    server: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    with running(server, place, grace=0.2) as (first, port), clients(port, 1) as (idle,):
        assert idle.ask() == (first.pid, True)
        with running(server, place):
            assert first.wait(20) == 0
            assert idle.answers.read() == b""


@each_server
def test_sighup_starts_a_successor(server: str, tmp_path: Path) -> None:
    with running(server, tmp_path / "place") as (first, port):
        first.send_signal(signal.SIGHUP)
        successor, same = told(first)
        assert (successor != first.pid, same) == (True, port)
        with Process.open(successor) as second:
            assert first.wait(20) == 0
            assert who_answers(port) == successor
            second.terminate()
            until(lambda: second.ended)


@each_server
def test_a_server_goes_on_when_its_successor_dies(server: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with running(server, place) as (first, port), clients(port, 1) as (keeps,):
        for _ in range(3):
            take(place).close()
            assert keeps.ask() == (first.pid, True)
        with running(server, place) as (second, _):
            assert keeps.ask() == (first.pid, False)
            assert first.wait(20) == 0
            assert who_answers(port) == second.pid


def test_the_shortest_server_is_replaced_too(tmp_path: Path) -> None:
    argv = [sys.executable, str(EXAMPLES / "handover_threads.py"), str(tmp_path / "place")]
    with ExitStack() as stack:
        servers: list[Process] = []
        for _ in range(3):
            server = stack.enter_context(process.spawn(argv, stdout=PIPE, stderr=DEVNULL))
            stack.callback(server.kill)
            pid, port = told(server)
            if servers:
                assert servers[-1].wait(20) == 0
            servers.append(server)
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                with client.makefile("rb") as answer:
                    assert answer.read().endswith(b"\r\n\r\nhello from %d\n" % pid)
