"""The example supervisor restarts its server, stops cleanly, and never signals a stranger."""

import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from fdproof import process
from fdproof.process import PIPE, Process
from tests.process.children import CAT, CLONE_NEWPID
from tests.process.test_kill_safety import LAST_PID, in_own_pid_namespace
from tests.process.test_tree import as_subreaper

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range")

EXAMPLES = Path(__file__).parents[2] / "examples"
WEB_SERVER = [sys.executable, str(EXAMPLES / "web_server.py")]


@contextmanager
def supervisor(*arguments: str) -> Iterator[tuple[Process, IO[str]]]:
    """A running supervisor and what it says, line by line."""
    argv = [sys.executable, str(EXAMPLES / "supervisor.py"), *arguments]
    with process.spawn(argv, stdout=PIPE) as child:
        assert child.stdout is not None
        with child.stdout.into_file("r", encoding="utf-8") as lines:
            yield child, lines
            child.terminate()


def expect(lines: IO[str], pattern: str) -> int:
    """The first number in the next line, which must be the expected one."""
    line = lines.readline()
    found = re.fullmatch(pattern, line.rstrip("\n"))
    assert found, line
    return int(found[1])


def ask(port: int) -> int:
    """The pid of the server that answers."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with connection.makefile("rb") as answer:
            return int(answer.read().rpartition(b"hello from ")[2])


def test_a_killed_server_is_replaced_and_sigterm_stops_all() -> None:
    def check() -> None:
        with supervisor("--pause", "0.01", *WEB_SERVER) as (child, lines):
            port = expect(lines, r"listening on port (\d+)")
            for pause in ("0.01", "0.02", "0.04"):
                pid = expect(lines, r"worker 1: process (\d+) started")
                assert ask(port) == pid
                with Process.open(pid) as server:
                    server.kill()
                ended = rf"worker 1: process (\d+) ended with -9, next try in {pause} s"
                assert expect(lines, ended) == pid
            # The listening socket was never closed, so this waits for the next server.
            assert ask(port) == expect(lines, r"worker 1: process (\d+) started")
            child.terminate()
            assert child.wait() == 0
            assert lines.read() == "stopped\n"

    as_subreaper(check)


def test_servers_are_watched_one_by_one() -> None:
    def check() -> None:
        with supervisor("--workers", "2", "--pause", "0.01", *WEB_SERVER) as (child, lines):
            expect(lines, r"listening on port (\d+)")
            first = expect(lines, r"worker 1: process (\d+) started")
            expect(lines, r"worker 2: process (\d+) started")
            with Process.open(first) as server:
                server.kill()
            expect(lines, r"worker 1: process (\d+) ended with -9, .*")
            expect(lines, r"worker 1: process (\d+) started")
            child.terminate()
            assert child.wait() == 0

    as_subreaper(check)


def test_a_server_that_does_not_stop_is_killed() -> None:
    def check() -> None:
        script = "trap '' TERM; echo ready; while :; do sleep 1000; done"
        with supervisor("--grace", "0.01", "sh", "-c", script) as (child, lines):
            expect(lines, r"listening on port (\d+)")
            # The server and the supervisor write to the same pipe, and may share a line.
            assert "ready" in lines.readline() + lines.readline()
            child.terminate()
            assert child.wait() == 0

    as_subreaper(check)


def test_a_server_that_cannot_be_started_is_tried_again() -> None:
    with supervisor("--pause", "0.01", "/does/not/exist") as (child, lines):
        expect(lines, r"listening on port (\d+)")
        for pause in ("0.01", "0.02"):
            failed = r"worker (1): .*exec: No such file or directory: '/does/not/exist'"
            expect(lines, rf"{failed}, next try in {pause} s")
        child.terminate()
        assert child.wait() == 0


def test_no_server_outlives_a_killed_supervisor() -> None:
    def check() -> None:
        with supervisor(*WEB_SERVER) as (child, lines):
            expect(lines, r"listening on port (\d+)")
            expect(lines, r"worker 1: process (\d+) started")
            child.kill()
            assert child.wait() == -signal.SIGKILL

    as_subreaper(check)


def signals_no_stranger() -> None:
    with supervisor("--pause", "1000", *WEB_SERVER) as (child, lines):
        expect(lines, r"listening on port (\d+)")
        number = expect(lines, r"worker 1: process (\d+) started")
        with Process.open(number) as server:
            server.kill()
        expect(lines, r"worker 1: process (\d+) ended with -9, next try in 1000 s")
        # The numbers have wrapped around while the supervisor remembers its server.
        LAST_PID.write_text(str(number - 1))
        with process.spawn(CAT, stdin=PIPE) as stranger:
            assert stranger.pid == number
            child.terminate()
            assert child.wait() == 0
            assert stranger.poll() is None


@pytest.mark.root
def test_a_stranger_with_the_servers_number_is_left_alone() -> None:
    in_own_pid_namespace(signals_no_stranger, CLONE_NEWPID)
