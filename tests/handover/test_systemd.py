"""systemd's own programs drive fdproof, and are driven by it."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdproof import handover, process
from fdproof.handover import Notification, Refusal, Store
from fdproof.process import PIPE, STDOUT
from tests.handover.children import served
from tests.process.children import until

ACTIVATE = "systemd-socket-activate"
NOTIFY = "systemd-notify"

TAKE = """
import os
from fdproof import handover
with handover.listeners() as handed:
    for entry in handed:
        print(repr(entry))
    print("LISTEN_FDS" in os.environ, len(handover.listeners()))
"""


def activated(arguments: list[str], connect: list[str], kind: int, program: str) -> list[str]:
    """What a program prints that is started when somebody talks to its socket."""
    # In a file, since the whole command line is printed.
    file = f"{connect[0]}.py"
    Path(file).write_text(program)
    argv = [ACTIVATE, *arguments, "-E", "PYTHONPATH", sys.executable, "-W", "error", file]
    with process.spawn(argv, stdout=PIPE, stderr=STDOUT) as child:
        assert child.stdout is not None
        with child.stdout.into_file("r", encoding="utf-8") as lines:
            for path in connect:
                assert lines.readline().startswith("Listening on"), path
            with socket.socket(socket.AF_UNIX, kind) as client:
                client.connect(connect[0])
                client.send(b"hello")
                text = lines.read()
        assert child.wait(60) == 0, text
    # What it says itself, of connections and of starting the program.
    return [
        line
        for line in text.splitlines()
        if not re.match("(Communication|Exec|Connection|Received|Spawned|Child)", line)
    ]


@pytest.mark.requires_program(ACTIVATE)
@pytest.mark.requires_kernel("pidfd_open")
class TestSocketActivate:
    def test_several_sockets_come_by_name(self, tmp_path: Path) -> None:
        paths = [str(tmp_path / name) for name in "ab"]
        lines = activated(
            ["-l", paths[0], "-l", paths[1], "--fdname=web:admin"],
            paths,
            socket.SOCK_STREAM,
            TAKE,
        )

        assert lines == [
            "<'web': AF_UNIX, SOCK_STREAM, listening>",
            "<'admin': AF_UNIX, SOCK_STREAM, listening>",
            "False 0",
        ]

    def test_one_name_is_for_all(self, tmp_path: Path) -> None:
        paths = [str(tmp_path / name) for name in "ab"]
        lines = activated(
            ["-l", paths[0], "-l", paths[1], "--fdname=web"], paths, socket.SOCK_STREAM, TAKE
        )

        assert lines[:2] == ["<'web': AF_UNIX, SOCK_STREAM, listening>"] * 2

    def test_datagrams_without_a_name(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a")
        lines = activated(["-d", "-l", path], [path], socket.SOCK_DGRAM, TAKE)

        assert lines == ["<'unknown': AF_UNIX, SOCK_DGRAM>", "False 0"]

    def test_packets_and_a_network_address(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a")
        lines = activated(
            ["--seqpacket", "-l", path, "--fdname=p"], [path], socket.SOCK_SEQPACKET, TAKE
        )

        assert lines == ["<'p': AF_UNIX, SOCK_SEQPACKET, listening>", "False 0"]

    def test_an_accepted_connection_is_talked_to(self, tmp_path: Path) -> None:
        program = """
from fdproof import handover
with handover.listeners() as handed, handed.take_socket() as connection:
    print(connection.recv(99).decode(), len(handed))
"""
        path = str(tmp_path / "a")
        argv = [ACTIVATE, "-a", "-l", path, "-E", "PYTHONPATH", sys.executable, "-c", program]
        with process.spawn(argv, stdout=PIPE, stderr=STDOUT) as child:
            assert child.stdout is not None
            with child.stdout.into_file("r", encoding="utf-8") as lines:
                assert lines.readline().startswith("Listening on")
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)
                    client.send(b"hello")
                    while (line := lines.readline()) and line != "hello 0\n":
                        pass
                child.terminate()
        assert line == "hello 0\n"

    def test_names_that_do_not_fit_are_refused(self, tmp_path: Path) -> None:
        program = """
from fdproof import handover
try:
    handover.listeners()
except ValueError as error:
    print(error)
"""
        path = str(tmp_path / "a")
        lines = activated(["-l", path, "--fdname=a:b"], [path], socket.SOCK_STREAM, program)

        assert "LISTEN_FDNAMES: 'a:b' has 2 names for 1 descriptors (LISTEN_FDS)" in lines


class Scene:
    """A store that a thread serves, and what it heard and refused."""

    def __init__(self, path: Path) -> None:
        self.heard: list[Notification] = []
        self.refused: list[Refusal] = []
        self.store = Store(path, heard=self.heard.append, refused=self.refused.append)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemd-notify, which waits until the store has read its message."""
        return subprocess.run(
            [NOTIFY, *arguments],
            check=False,
            env={**os.environ, "NOTIFY_SOCKET": self.store.path},
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def fields(self) -> list[dict[str, str]]:
        return [dict(one.fields) for one in self.heard]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path / "store")
    with scene.store, served(scene.store):
        yield scene


@pytest.mark.requires_program(NOTIFY)
@pytest.mark.requires_kernel("pidfd_open", "SO_PASSPIDFD")
class TestNotify:
    @pytest.mark.parametrize(
        ("arguments", "fields"),
        [
            (["--ready"], {"READY": "1"}),
            (["--ready", "--status=so far so good"], {"READY": "1", "STATUS": "so far so good"}),
            (["--pid=123", "--ready"], {"READY": "1", "MAINPID": "123"}),
            (["WATCHDOG=1", "X_OWN=a=b"], {"WATCHDOG": "1", "X_OWN": "a=b"}),
            (["FDSTOREREMOVE=1", "FDNAME=x"], {"FDSTOREREMOVE": "1", "FDNAME": "x"}),
        ],
    )
    def test_the_store_hears_it_and_lifts_its_barrier(
        self, scene: Scene, arguments: list[str], fields: dict[str, str]
    ) -> None:
        result = self_checked(scene.run(*arguments))

        assert result == ""
        assert scene.fields == [fields]
        assert scene.heard[0].uid == os.getuid()
        assert scene.refused == []

    @pytest.mark.root
    def test_root_speaks_for_its_parent(self, scene: Scene) -> None:
        """It states the pid of who has called it: this process."""
        scene.run("--ready")

        assert scene.heard[0].pid == os.getpid()

    def test_it_removes_what_a_service_has_stored(self, scene: Scene) -> None:
        handover.Service(scene.store.path).push("x", 0, poll=False)
        scene.run("FDSTOREREMOVE=1", "FDNAME=x")

        assert scene.store.kept() == ()

    def test_without_waiting_it_is_heard_or_refused(self, scene: Scene) -> None:
        """It may have ended before its message is read."""
        self_checked(scene.run("--no-block", "--ready"))
        until(lambda: bool(scene.heard or scene.refused))

        assert scene.fields == [{"READY": "1"}] or "has ended" in scene.refused[0].reason


def self_checked(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.mark.requires_program(NOTIFY)
@pytest.mark.requires_kernel("pidfd_open", "SO_PASSPIDFD", "close_range")
def test_a_service_in_shell_works_under_the_store(tmp_path: Path) -> None:
    """Nothing in it knows fdproof."""
    script = f'{NOTIFY} --ready --status="pid $$" && echo told'
    argv = [sys.executable, "-m", "fdproof", "store", "--verbose", "--", "sh", "-c", script]
    result = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)

    assert result.returncode == 0, result.stderr
    assert result.stdout == "told\n"
    assert re.search(r"READY='1', STATUS='pid \d+'\n", result.stderr)
