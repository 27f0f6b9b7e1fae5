"""Operations for `fdproof check`: everything public of handover, on this process's own descriptors.

What only waits longer than the operation here, for a store in another process, is told apart by its
time limit: the store runs when the operation calls it, so that every run makes the same calls.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fdproof
from fdproof import handover, passing
from fdproof.handover import Handed, Service, Store
from fdproof.handover._restoring import Restoring
from tests.handover.turns import being_replaced, both, taking_over

# What each operation is there for.
COVERS: dict[str, tuple[str, ...]] = {}

_RECORD = "A value without system calls."
_LOOP = "The loop around what is swept step by step: tests/handover/test_store.py."

# Public names without an operation, and why.
EXEMPT: dict[str, str] = {
    **{
        f"fdproof.handover.{name}": _RECORD
        for name in (
            *(
                "Entry",
                *(f"Entry.{part}" for part in ("family", "listening", "name", "protocol", "type")),
            ),
            *("Connection", "Connection.socket", "Connection.state"),
            *("Kept", *(f"Kept.{part}" for part in ("file", "name", "poll", "uid"))),
            *("Notification", *(f"Notification.{part}" for part in ("fields", "pid", "uid"))),
            *("Refusal", *(f"Refusal.{part}" for part in ("pid", "reason", "uid"))),
            "Service.address",
            "Service.watchdog_period",
            "Store.path",
        )
    },
    **{
        f"fdproof.handover.{name}": _LOOP
        for name in (
            "Service.barrier_async",
            "Service.restore_async",
            "Store.serve_async",
        )
    },
}


def covers(*names: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Say which public operations of handover an operation is there for."""

    def register(operation: Callable[[], None]) -> Callable[[], None]:
        COVERS[operation.__name__] = tuple(f"fdproof.handover.{name}" for name in names)
        return operation

    return register


@contextlib.contextmanager
def _path() -> Iterator[Path]:
    """A place for a socket, the same in each run."""
    path = Path(tempfile.gettempdir()) / f"fdproof-sweep-{os.getppid()}-{os.getpid()}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _store() -> Iterator[tuple[Store, Service]]:
    with _path() as path, Store(path) as store:
        yield store, Service(store.path)


@covers("listeners", "Handed.close", "Handed.take", "Handed.take_socket")
def activated() -> None:
    """The next free numbers are those that a manager places descriptors at, as the check has left them."""
    with socket.socket() as web, fdproof.eventfd(inheritable=True) as event:
        web.set_inheritable(True)
        given = [web.detach(), event.detach()]
    variables = {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": "2",
        "LISTEN_FDNAMES": "web:event",
    }
    os.environ.update(variables)
    try:
        assert given == [3, 4]
        with handover.listeners() as handed:
            given = []
            with handed.take_socket("web"):
                handed.take("event").close()
    finally:
        for number in given:
            fdproof.Descriptor(number).close()


@covers("Handed", "Handed.take_sockets")
def handed_over() -> None:
    with fdproof.socketpair() as ends, fdproof.eventfd() as event:
        with Handed(["a", "b", "c"], [*ends, event]) as handed:
            for sock in handed.take_sockets(listening=False):
                sock.close()


@covers(
    "Service",
    "Service.alive",
    "Service.extend_timeout",
    "Service.failed",
    "Service.main_pid",
    "Service.ready",
    "Service.reloading",
    "Service.set_watchdog",
    "Service.status",
    "Service.stopping",
    "Service.tell",
    "Service.trigger_watchdog",
    "Store",
    "Store.close",
    "Store.handle",
)
def telling() -> None:
    with _store() as (store, service):
        assert service.ready(status="x")
        assert service.reloading()
        assert service.stopping()
        assert service.status("x")
        assert service.failed(1)
        store.handle()
        assert service.main_pid(os.getpid())
        assert service.extend_timeout(1)
        assert service.alive()
        assert service.trigger_watchdog()
        assert service.set_watchdog(1)
        store.handle()
    store.close()


@covers("Service.push", "Service.remove", "Store.kept")
def pushing() -> None:
    with _store() as (store, service):
        with fdproof.eventfd() as event, fdproof.memfd("x") as memory:
            service.push("a", event)
            service.push("a", event)
            service.push("b", memory, poll=False)
        store.handle()
        store.kept()
        service.remove("a")
        store.handle()


@covers("Store.keep", "Store.fileno")
def keeping() -> None:
    with _store() as (store, _):
        with fdproof.eventfd() as event:
            store.keep("a", event)
        os.fstat(store.fileno())


@covers("Service.restore")
def restoring() -> None:
    with _store() as (store, service), Restoring() as question:
        store.keep("a", fdproof.eventfd())
        store.keep("b", fdproof.memfd("x"))
        try:
            service.restore(0).close()
        except TimeoutError:
            pass
        service.tell({"FDPROOF_RESTORE": "1"}, [question.theirs])
        store.handle()
        question.theirs.close()
        while not question.done:
            question.receive()
        with question.handed() as handed:
            handed.take("a").close()


@covers("Service.barrier", "Store.serve", "Store.stop")
def waiting() -> None:
    with _store() as (store, service):
        try:
            service.barrier(0)
        except TimeoutError:
            pass
        store.stop()
        store.serve()
        store.handle()


def hanging_up() -> None:
    with _store() as (store, service), fdproof.socketpair() as ends:
        service.push("a", ends.first)
        store.handle()
        ends.second.close()
        ends.first.close()
        store.handle()


def refused() -> None:
    with _store() as (store, _), fdproof.eventfd() as event:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            for data in (b"nonsense", b"BARRIER=1\nX=1", b"FDPROOF_RESTORE=1", b"x" * 5000):
                passing.send(sock, data, [event] * 3, address=store.path)
        store.handle()


def a_place_that_is_taken() -> None:
    with _store() as (store, _):
        try:
            Store(store.path)
        except OSError:
            pass


def a_place_that_is_stale() -> None:
    with _path() as path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(path))
        with Store(path):
            pass


@contextlib.contextmanager
def _live() -> Iterator[list[tuple[socket.socket, bytes]]]:
    near, far = socket.socketpair()
    with near, far:
        yield [(near, b"state")]


@covers(
    "offer",
    *("Offer", "Offer.close", "Offer.wait", "Offer.wait_async"),
    *("take", "take_async", "Taken", "Taken.close", "Taken.ready", "Taken.ready_async"),
)
def replaced() -> None:
    """Both sides in turns: what differs in the public calls is how they wait."""
    with _path() as path, fdproof.eventfd() as event:
        with handover.take(path) as first:
            first.ready()
            offer = handover.offer(first, {"event": event}, connections=_live)
        with offer:
            taken, connections = both(being_replaced(offer), taking_over(path))[1]
            with taken:
                for connection in connections:
                    connection.socket.close()
                taken.sockets.take("event").close()
                with handover.offer(taken, {"event": event}):
                    pass


def replaced_over_a_socket_of_its_own() -> None:
    ours, theirs = fdproof.socketpair()
    with ours, theirs, handover.offer(ours, {"input": 0}) as offer:
        both(being_replaced(offer), taking_over(theirs))[1][0].close()


def offered_to_one_that_gives_up() -> None:
    failed: list[Exception] = []
    with _path() as path, handover.offer(path, {"input": 0}, failed=failed.append) as offer:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(path))
            stranger.send(b"no successor at all, says nonsense")
            both(being_replaced(offer), taking_over(path))[1][0].close()
    assert failed


OPERATIONS = [
    activated,
    handed_over,
    telling,
    pushing,
    keeping,
    restoring,
    waiting,
    hanging_up,
    refused,
    a_place_that_is_taken,
    a_place_that_is_stale,
    replaced,
    replaced_over_a_socket_of_its_own,
    offered_to_one_that_gives_up,
]
