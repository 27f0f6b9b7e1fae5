"""Service: what a service tells, byte by byte, to whoever listens at NOTIFY_SOCKET."""

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import fdproof
from fdproof import passing
from fdproof.handover import Service

HERE = "NOTIFY_SOCKET"


class Manager:
    """The receiving end: a datagram socket, and what comes to it."""

    def __init__(self, address: str | bytes) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(60)

    def next(self) -> str:
        with passing.receive(self.socket, 8192, 253) as message:
            return message.data.decode()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify"))
    with manager.socket:
        yield manager


@pytest.fixture
def service(manager: Manager) -> Service:
    return Service(manager.socket.getsockname())


TOLD: list[tuple[Callable[[Service], bool], str]] = [
    (lambda service: service.ready(), "READY=1"),
    (lambda service: service.ready(status="über"), "READY=1\nSTATUS=über"),
    (lambda service: service.stopping(), "STOPPING=1"),
    (lambda service: service.stopping(status="bye"), "STOPPING=1\nSTATUS=bye"),
    (lambda service: service.status("50 % = half"), "STATUS=50 % = half"),
    (lambda service: service.failed(errno.ENOENT), "ERRNO=2"),
    (lambda service: service.main_pid(77), "MAINPID=77"),
    (lambda service: service.extend_timeout(1.5), "EXTEND_TIMEOUT_USEC=1500000"),
    (lambda service: service.extend_timeout(1e-9), "EXTEND_TIMEOUT_USEC=1"),
    (lambda service: service.alive(), "WATCHDOG=1"),
    (lambda service: service.trigger_watchdog(), "WATCHDOG=trigger"),
    (lambda service: service.set_watchdog(20), "WATCHDOG_USEC=20000000"),
    (lambda service: service.remove("a b"), "FDSTOREREMOVE=1\nFDNAME=a b"),
    (lambda service: service.tell({"X_A": "1", "NOTIFYACCESS": "all"}), "X_A=1\nNOTIFYACCESS=all"),
]


@pytest.mark.parametrize(("tell", "text"), TOLD, ids=[text.split("\n")[0] for _, text in TOLD])
def test_it_tells(
    manager: Manager, service: Service, tell: Callable[[Service], bool], text: str
) -> None:
    assert tell(service) is True
    assert manager.next() == text


@pytest.mark.parametrize("tell", [tell for tell, _ in TOLD])
def test_without_a_manager_it_tells_nobody(
    tell: Callable[[Service], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, ""):
        monkeypatch.delenv(HERE, raising=False)
        if value is not None:
            monkeypatch.setenv(HERE, value)
        service = Service()

        assert service.address is None
        assert tell(service) is False
        assert service.push("x", 0) is service.barrier() is False
        with service.restore() as handed:
            assert len(handed) == 0


def test_reloading_tells_the_time(manager: Manager, service: Service) -> None:
    before = time.monotonic_ns() // 1000
    service.reloading(status="again")
    fields = dict(line.split("=") for line in manager.next().split("\n"))

    assert before <= int(fields.pop("MONOTONIC_USEC")) <= time.monotonic_ns() // 1000
    assert fields == {"RELOADING": "1", "STATUS": "again"}


def test_the_address_comes_from_the_environment(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HERE, manager.socket.getsockname())

    assert Service().ready()
    assert manager.next() == "READY=1"
    assert os.environ[HERE] == Service().address


def test_an_abstract_address_works() -> None:
    name = f"fdproof-{os.getpid()}-ü"
    manager = Manager(b"\0" + name.encode())
    with manager.socket:
        assert Service(f"@{name}").ready()
        assert manager.next() == "READY=1"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("vsock:2:1234", "NOTIFY_SOCKET: 'vsock:2:1234' leads out of this virtual machine"),
        ("vsock-stream:2:1", "NOTIFY_SOCKET: 'vsock-stream:2:1' leads out"),
        ("notify", "NOTIFY_SOCKET: 'notify' is neither an absolute path nor an abstract name"),
        ("@", "NOTIFY_SOCKET: '@' is neither"),
    ],
)
def test_an_address_that_cannot_be_is_refused(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^NOTIFY_SOCKET") as caught:
        Service(address)
    assert str(caught.value).startswith(message)


def test_an_address_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^NOTIFY_SOCKET: '/x+': AF_UNIX path too long"):
        Service("/" + "x" * 200).ready()


def test_nobody_there_is_said_with_the_address(tmp_path: Path) -> None:
    path = str(tmp_path / "nobody")
    with pytest.raises(FileNotFoundError) as missing:
        Service(path).ready()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(path)
    with pytest.raises(ConnectionRefusedError) as refused:
        Service(path).barrier()

    assert missing.value.filename == refused.value.filename == path


@pytest.mark.parametrize(
    ("tell", "message"),
    [
        (
            lambda service: service.status("a\nREADY=1"),
            "STATUS: 'a\\nREADY=1' contains a newline or a NUL",
        ),
        (lambda service: service.ready(status="a\0"), "STATUS: 'a\\x00' contains"),
        (lambda service: service.status("\udcff"), "STATUS: '\\udcff' is not text in UTF-8"),
        (lambda service: service.tell({"A=B": "1"}), "fields: 'A=B' is not the name of a field"),
        (lambda service: service.tell({"ready": "1"}), "fields: 'ready' is not the name"),
        (lambda service: service.tell({}), "fields: there is nothing to say"),
        (
            lambda service: service.status("x" * 4096),
            "STATUS: 4103 bytes are more than the 4096 that a service manager reads",
        ),
        (lambda service: service.push("a:b", 0), "name: 'a:b' has characters other than"),
        (lambda service: service.push("ä", 0), "name: 'ä' has characters other than"),
        (lambda service: service.push("a\n", 0), "name: 'a\\n' has characters other than"),
        (lambda service: service.push("x" * 256, 0), "name: a name of 256 characters is longer"),
        (lambda service: service.remove(""), "name: it is empty"),
        (lambda service: service.extend_timeout(0), "seconds: takes seconds above 0, not 0"),
        (
            lambda service: service.set_watchdog(float("nan")),
            "seconds: takes seconds above 0, not nan",
        ),
        (lambda service: service.barrier(-1), "timeout: takes None or seconds from 0 on, not -1"),
    ],
)
def test_what_cannot_be_told_is_refused(
    manager: Manager, service: Service, tell: Callable[[Service], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^\w+: ") as caught:
        tell(service)

    assert str(caught.value).startswith(message)
    manager.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.next()


@pytest.mark.parametrize(
    ("variables", "period"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "1500000"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": ""}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_tells_its_period(
    variables: dict[str, str], period: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID", HERE):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert Service().watchdog_period == period


@pytest.mark.parametrize("name", ["WATCHDOG_USEC", "WATCHDOG_PID"])
def test_a_watchdog_that_cannot_be_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1")
    monkeypatch.setenv(name, "soon")

    with pytest.raises(ValueError, match=f"^{name}: 'soon' is not a number$"):
        _ = Service().watchdog_period


def test_a_descriptor_goes_with_its_name(manager: Manager, service: Service) -> None:
    with fdproof.eventfd() as file:
        service.push("event", file)
        service.push("quiet", file.fileno(), poll=False)
        for text in ("FDSTORE=1\nFDNAME=event", "FDSTORE=1\nFDNAME=quiet\nFDPOLL=0"):
            with passing.receive(manager.socket, 4096, 1) as message:
                assert message.data.decode() == text
                assert message.files[0].same_file(file)


def test_a_barrier_waits_until_its_descriptor_is_closed(manager: Manager, service: Service) -> None:
    passed = threading.Event()

    def wait() -> None:
        assert service.barrier(60)
        passed.set()

    thread = threading.Thread(target=wait)
    thread.start()
    with passing.receive(manager.socket, 4096, 1) as message:
        assert message.data == b"BARRIER=1"
        assert not passed.is_set()
    thread.join()
    assert passed.is_set()


def test_a_barrier_that_nobody_lifts_ends_in_time(manager: Manager, service: Service) -> None:
    with pytest.raises(
        TimeoutError, match=r"^the manager has not read what was told within 0\.01 s$"
    ):
        service.barrier(0.01)
    assert manager.next() == "BARRIER=1"


def test_a_full_manager_ends_a_barrier_in_time(manager: Manager, service: Service) -> None:
    """Where there is no room for the message itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                flood.sendto(b"X=1", manager.socket.getsockname())
    with pytest.raises(TimeoutError, match="has not read"):
        service.barrier(0)


def test_a_cancelled_barrier_leaves_nothing(
    manager: Manager, service: Service, backend: str
) -> None:
    async def main() -> None:
        with anyio.move_on_after(0.01) as scope:
            await service.barrier_async()
        assert scope.cancelled_caught
        assert manager.next() == "BARRIER=1"
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.barrier_async)
            await anyio.wait_readable(manager.socket)
            assert manager.next() == "BARRIER=1"

    anyio.run(main, backend=backend)


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
