"""Both sides of a restart: in all ways of waiting, and played step by step by a process that may die."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from fdproof import handover
from fdproof.handover import Connection, Offer, Taken
from fdproof.handover._succession import VERSION, Line, Word
from fdproof.handover._waiting import Blocking, finished
from fdproof.passing._deadline import Deadline
from fdproof.passing._stream import accepted
from fdproof.process import Process

# What each side does, one step after the other.
SUCCESSOR = [
    "hear hello",
    "say take",
    "hear offer",
    "say ready",
    "hear all",
    "say received",
    "hear done",
]
PREDECESSOR = [
    "say hello",
    "hear take",
    "say offer",
    "hear ready",
    "say live",
    "say all",
    "hear received",
    "say done",
]

each_way = pytest.mark.parametrize("way", ["blocking", "asyncio", "trio"])


def take(way: str, place: Any, *, timeout: float | None = None, **options: Any) -> Taken:
    """Take, by one of the ways of waiting."""
    if way == "blocking":
        return handover.take(place, timeout=timeout, **options)

    async def main() -> Taken:
        with anyio.fail_after(timeout):
            return await handover.take_async(place, **options)

    return anyio.run(main, backend=way)


def ready(way: str, taken: Taken, *, timeout: float | None = None) -> list[Connection]:
    """Say ready, by one of the ways of waiting."""
    if way == "blocking":
        return taken.ready(timeout)

    async def main() -> list[Connection]:
        with anyio.fail_after(timeout):
            return await taken.ready_async()

    return anyio.run(main, backend=way)


def wait(way: str, offer: Offer, *, timeout: float | None = None) -> Process:
    """Wait for a successor, by one of the ways of waiting."""
    if way == "blocking":
        return offer.wait(timeout)

    async def main() -> Process:
        with anyio.fail_after(timeout):
            return await offer.wait_async()

    return anyio.run(main, backend=way)


class Played:
    """Another process that plays a part step by step; it waits to be told for each."""

    def __init__(self, orders: int, answers: int) -> None:
        self._orders = orders
        self._answers = answers

    def do(self, what: str) -> str:
        """Let it take a step; return "", the name of the exception, or for "pid" the number."""
        self.go(what)
        return self.answer()

    def go(self, what: str) -> None:
        """Let it take a step, without waiting for it."""
        os.write(self._orders, what.encode() + b"\n")

    def answer(self) -> str:
        """Wait for what ``do`` returns."""
        text = b""
        while not text.endswith(b"\n"):
            more = os.read(self._answers, 1)
            assert more, "it has ended"
            text += more
        return text[:-1].decode()


@contextmanager
def playing(
    begin: Callable[[], Line], prepare: Callable[[], None] = lambda: None
) -> Iterator[Played]:
    """A forked process that has the connection which ``begin`` makes, and does what it is told.

    "start" waits until it runs, "connect" until it has the connection. "die" kills it, "fork" does and
    leaves its connection with a child that lives on. "decline", "leave" and the steps of ``SUCCESSOR``
    and ``PREDECESSOR`` are those of the conversation. The end of its orders ends it.
    """
    orders, give = os.pipe()
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(give)
            os.close(answers)
            prepare()
            _play(begin, orders, answer)
            code = 0
        finally:
            os._exit(code)
    os.close(orders)
    os.close(answer)
    try:
        yield Played(give, answers)
    finally:
        os.close(give)
        os.close(answers)
        os.waitpid(pid, 0)


def _play(begin: Callable[[], Line], orders: int, answer: int) -> None:
    line: Line | None = None
    text = b""
    while chunk := os.read(orders, 1000):
        text += chunk
        while b"\n" in text:
            step, _, text = text.partition(b"\n")
            if step == b"start":
                os.write(answer, b"\n")
                continue
            try:
                line = line or begin()
                _take_step(line, step.decode(), orders)
                os.write(answer, b"%d\n" % os.getpid() if step == b"pid" else b"\n")
            except Exception as error:
                os.write(answer, type(error).__name__.encode() + b"\n")


def _take_step(line: Line, step: str, orders: int) -> None:
    deadline = Deadline(20, "the other side of the test has not answered")
    match step.split():
        case ["connect"] | ["pid"]:
            pass
        case ["die"]:
            os._exit(9)
        case ["fork"]:
            if os.fork() == 0:
                # Keeps the connection until the test has ended.
                while os.read(orders, 100):
                    pass
                os._exit(0)
            os._exit(9)
        case ["decline"]:
            line.decline("it does not want to")
        case ["leave"]:
            line.close()
        case ["say", "hello"]:
            finished(line.say(Blocking(), deadline, Word.HELLO, VERSION))
        case ["say", "offer"]:
            listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
            files = [_place_of(line), *listeners]
            body = b'{"names": ["http", "http"], "place": true}'
            finished(line.say(Blocking(), deadline, Word.OFFER, body, files))
        case ["say", "live"]:
            near, _ = socket.socketpair()
            finished(line.say(Blocking(), deadline, Word.LIVE, b"its\nstate", [near]))
        case ["say", "all"]:
            finished(line.say(Blocking(), deadline, Word.ALL, b"1"))
        case ["say", word]:
            finished(line.say(Blocking(), deadline, Word(word.encode())))
        case ["hear", "all"]:
            while True:
                said = finished(line.hear(Blocking(), deadline, Word.LIVE, Word.ALL))
                if said.word is Word.ALL:
                    break
        case ["hear", word] if line.other is None:
            finished(line.meet(Blocking(), deadline, Word(word.encode())))
        case ["hear", word]:
            finished(line.hear(Blocking(), deadline, Word(word.encode())))


# Where a played predecessor listens.
_places: list[socket.socket] = []


def _place_of(_: Line) -> socket.socket:
    return _places[0]


@contextmanager
def predecessor(path: Path, prepare: Callable[[], None] = lambda: None) -> Iterator[Played]:
    """A process that listens at the path for its successor; "connect" waits for one."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))

        def begin() -> Line:
            connection = accepted(listener)
            return Line(connection)

        def listen() -> None:
            prepare()
            # Here, so that it is this process that listens.
            listener.listen()
            _places[:] = [listener]

        with playing(begin, listen) as played:
            listener.close()
            played.do("start")
            yield played


@contextmanager
def successor(path: Path, prepare: Callable[[], None] = lambda: None) -> Iterator[Played]:
    """A process that connects to the path when it takes its first step."""

    def begin() -> Line:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return Line(sock)

    with playing(begin, prepare) as played:
        yield played


@contextmanager
def in_thread(call: Callable[[], object]) -> Iterator[list[Any]]:
    """Run a call beside the block; gives its result, or what it raised, when the block has ended."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(call())
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ended
    finally:
        thread.join(60)
