"""fdproof store, from outside: it keeps, runs, starts again, and ends clean."""

import contextlib
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

import fdproof
from fdproof import process
from fdproof.handover import Service
from fdproof.process import PIPE, STDOUT, Process
from tests.handover.children import names
from tests.process.children import until

pytestmark = pytest.mark.requires_kernel("pidfd_open", "close_range", "SO_PASSPIDFD")

COMMAND = [sys.executable, "-m", "fdproof", "store"]

# A server on one socket, which it leaves with the store: each connection gets its pid and is then told
# to the next start; "die" ends it with a status.
SERVER = """
import os, signal, socket, sys
from fdproof import handover
service = handover.Service()
with handover.listeners() as handed:
    held = sorted(entry.name for entry in handed)
    web = handed.take_socket("web") if "web" in held else socket.create_server(("127.0.0.1", 0))
with web:
    service.push("web", web)
    service.ready(status=f"port {web.getsockname()[1]}")
    service.barrier(60)
    print(os.getpid(), web.getsockname()[1], *held, flush=True)
    while True:
        with web.accept()[0] as connection:
            wish = connection.recv(99).decode()
            if wish.startswith("exit"):
                sys.exit(int(wish[4:]))
            connection.sendall(str(os.getpid()).encode())
"""


class Running:
    """A store's process and what it, and what it runs, write."""

    def __init__(self, child: Process, lines: IO[str]) -> None:
        self.child = child
        self._lines = lines

    def expect(self, pattern: str) -> re.Match[str]:
        """The next line that is no other message of the store's."""
        while line := self._lines.readline():
            if found := re.fullmatch(pattern, line.rstrip("\n")):
                return found
            assert line.startswith("fdproof: "), line
        raise AssertionError(f"it ended without {pattern!r}")

    def end(self) -> tuple[int, str]:
        """The exit status and everything that was not read yet."""
        rest = self._lines.read()
        return self.child.wait(60), rest


@contextlib.contextmanager
def store(*arguments: str, **options: object) -> Iterator[Running]:
    argv = [*COMMAND, *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with process.spawn(argv, stdout=PIPE, stderr=STDOUT, env=environment, **options) as child:  # type: ignore[arg-type]
        assert child.stdout is not None
        with child.stdout.into_file("r", encoding="utf-8") as lines:
            try:
                yield Running(child, lines)
            finally:
                child.terminate()


def ask(port: int, wish: str = "pid") -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(wish.encode())
        return connection.recv(99).decode()


def settled(running: Running) -> tuple[int, int, list[str]]:
    """The server's pid and port, and what it was handed."""
    found = running.expect(r"(\d+) (\d+)((?: \w+)*)")
    return int(found[1]), int(found[2]), found[3].split()


def test_a_service_that_fails_starts_again_with_what_it_has_stored() -> None:
    with store("--", sys.executable, "-c", SERVER) as running:
        pid, port, held = settled(running)
        assert held == []
        assert ask(port) == str(pid)
        for _ in range(2):
            ask(port, "exit 3")
            running.expect(rf"fdproof: process {pid} ended with 3")
            before = pid
            pid, again, held = settled(running)
            assert (again, held) == (port, ["web"])
            assert ask(port) == str(pid) != str(before)
        running.child.terminate()
        status, rest = running.end()

    assert status == 128 + signal.SIGTERM
    assert rest == f"fdproof: process {pid} ended with -15\n"


def test_connections_wait_while_the_service_starts_again() -> None:
    """Nobody is refused: the socket listens all the time."""
    with store("--", sys.executable, "-c", SERVER) as running:
        _, port, _ = settled(running)
        ask(port, "exit 1")
        for _ in range(5):
            pid = ask(port)
        assert settled(running)[0] == int(pid)


def test_sighup_starts_it_again() -> None:
    with store("--restart", "never", "--", sys.executable, "-c", SERVER) as running:
        pid, port, _ = settled(running)
        running.child.send_signal(signal.SIGHUP)
        again, same, held = settled(running)

        assert again != pid
        assert (same, held) == (port, ["web"])


@pytest.mark.parametrize(
    ("restart", "status", "starts"),
    [
        ("never", 0, 1),
        ("never", 3, 1),
        ("on-failure", 0, 1),
        ("on-failure", 3, 2),
        ("always", 0, 2),
    ],
)
def test_it_is_started_again_after_the_ends_that_are_named(
    restart: str, status: int, starts: int, tmp_path: Path
) -> None:
    """The second time it is told to stop."""
    script = f'echo x >> "$1"; [ $(wc -l < "$1") = 2 ] && kill -TERM $PPID && exec sleep 1000; exit {status}'
    with store(
        "--restart", restart, "--", "sh", "-c", script, "sh", str(tmp_path / "n")
    ) as running:
        ended, _ = running.end()

    assert (tmp_path / "n").read_text() == "x\n" * starts
    assert ended == (status if starts == 1 else 128 + signal.SIGTERM)


def test_it_stops_while_it_waits_to_start_again() -> None:
    with store("--", "sh", "-c", "exit 9") as running:
        running.expect(r"fdproof: process \d+ ended with 9")
        running.child.send_signal(signal.SIGINT)
        status, _ = running.end()

    assert status == 9


def test_a_service_that_does_not_stop_is_killed() -> None:
    script = "trap '' TERM; echo ready; exec sleep 1000"
    with store("--stop-timeout", "0.05", "--", "sh", "-c", script) as running:
        running.expect("ready")
        running.child.terminate()
        status, _ = running.end()

    assert status == 128 + signal.SIGKILL


def test_a_store_that_is_killed_takes_its_service_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody removes what a killed process has made.
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with store("--", sys.executable, "-c", SERVER) as running:
        pid, _, _ = settled(running)
        with Process.open(pid) as service:
            running.child.kill()
            until(lambda: service.ended)


def test_a_command_that_cannot_be_run_is_said() -> None:
    with store("--", "/no/such/program") as running:
        assert running.end() == (
            127,
            "fdproof: /no/such/program: exec: No such file or directory\n",
        )


def test_a_program_that_is_missing_for_a_moment_is_started_later(tmp_path: Path) -> None:
    program = tmp_path / "service"
    program.write_text("#!/bin/sh\nrm $0\nexit 1\n")
    program.chmod(0o755)
    with store("--", str(program)) as running:
        running.expect(r"fdproof: not started: \[Errno 2\] exec: No such file or directory: .*")
        (tmp_path / "new").write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / "new").chmod(0o755)
        (tmp_path / "new").rename(program)
        assert running.end()[0] == 0


def test_its_own_directory_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = 'ls -l "$NOTIFY_SOCKET"; ls -ld "${NOTIFY_SOCKET%/*}"'
    with store("--", "sh", "-c", script) as running:
        status, text = running.end()

    assert status == 0
    assert re.search(r"^srw------- .*/notify$", text, re.MULTILINE)
    assert re.search(r"^drwx------ ", text, re.MULTILINE)
    assert os.listdir(tmp_path) == []


def test_a_temporary_directory_with_a_long_name_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("TMPDIR", str(long))
    with store("--", "sh", "-c", 'echo "$NOTIFY_SOCKET"') as running:
        assert running.expect("/tmp/fdproof-[^/]*/notify")
        assert running.end()[0] == 0


def test_what_was_handed_to_the_store_goes_to_the_service() -> None:
    """Under socket activation the store passes the sockets on, and keeps them for the next start."""
    with socket.create_server(("127.0.0.1", 0)) as web:
        environment = {**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
        with process.spawn(
            [*COMMAND, "--", sys.executable, "-c", SERVER],
            stdout=PIPE,
            stderr=STDOUT,
            env=environment,
            files={3: web},
            pid_variable="LISTEN_PID",
        ) as child:
            assert child.stdout is not None
            with child.stdout.into_file("r", encoding="utf-8") as lines:
                running = Running(child, lines)
                port = web.getsockname()[1]
                assert settled(running)[1:] == (port, ["web"])
                ask(port, "exit 1")
                assert settled(running)[1:] == (port, ["web"])
                child.terminate()


def test_the_service_gets_its_place_in_its_table_and_nothing_else() -> None:
    script = "ls -1 /proc/self/fd; env | grep -c LISTEN"
    with store("--restart", "never", "--", "sh", "-c", script) as running:
        status, text = running.end()

    lines = [line for line in text.splitlines() if not line.startswith("fdproof: ")]
    # 3 is the listing's own; grep finds none, and says so by its status.
    assert lines == ["0", "1", "2", "3", "0"]
    assert status == 1


# Without a command.


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[tuple[Running, Service]]:
    path = tmp_path / "store"
    with store("--socket", str(path), "--verbose", "--mode", "660", "--per-user", "2") as running:
        running.expect(re.escape(f"fdproof: keeping descriptors at {path}"))
        yield running, Service(str(path))


def test_it_keeps_for_services_that_others_start(keeping: tuple[Running, Service]) -> None:
    running, service = keeping
    with fdproof.eventfd() as file:
        service.push("a", file)
        service.ready(status="\x1b[31mred")
        with service.restore(60) as handed:
            assert names(list(handed)) == ["a"]
            with handed.take("a") as again:
                assert again.same_file(file)
        for _ in range(2):
            with fdproof.eventfd() as other:
                service.push("b", other)
        service.barrier(60)
    assert service.address is not None
    assert stat.S_IMODE(os.stat(service.address).st_mode) == 0o660
    me = rf"user {os.getuid()}, process {os.getpid()}"
    running.expect(f"fdproof: {me}: FDSTORE='1', FDNAME='a'")
    running.expect(rf"fdproof: {me}: READY='1', STATUS='\\x1b\[31mred'")
    running.expect(f"fdproof: refused from {me}: no room for 1: 2 of 2 for each client are taken")
    running.child.send_signal(signal.SIGINT)

    assert running.end() == (0, "")
    assert not os.path.exists(service.address)


def test_a_flood_of_refusals_is_told_in_few_lines(keeping: tuple[Running, Service]) -> None:
    running, service = keeping
    for _ in range(200):
        service.tell({"FDSTORE": "1"})
    service.barrier(60)
    running.child.terminate()
    status, text = running.end()

    assert status == 0
    assert text.count("FDSTORE=1 brings no descriptor\n") == 10
    assert text.count("FDSTORE=1 brings no descriptor (100 by now)\n") == 1
    assert text.count("refused") == 11


def test_a_place_that_is_taken_is_left_alone(keeping: tuple[Running, Service]) -> None:
    _, service = keeping
    assert service.address is not None
    with store("--socket", service.address) as second:
        assert second.end() == (2, f"fdproof: {service.address}: somebody listens there\n")
    assert service.barrier(60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Error: give --socket PATH, or -- and a command"),
        (["--socket", "x", "--mode", "999"], "'999' is not like 600 or 660."),
        (["--socket", "x", "--per-user", "-1"], "-1 is not in the range x>=0."),
        (["--socket", "/" + "x" * 120], "fdproof: path: '/xxx"),
        (["--socket", "/no/such/directory/x"], "fdproof: /no/such/directory/x: No such file"),
    ],
)
def test_what_cannot_be_is_a_usage_error(arguments: list[str], message: str) -> None:
    with store(*arguments) as running:
        status, text = running.end()

    assert status == 2
    assert message in text
