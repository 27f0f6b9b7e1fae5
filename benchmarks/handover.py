"""Replace a web server again and again while wrk asks it: ``python -m benchmarks.handover``."""

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import crashing_successor, machine
from fdproof import process
from fdproof.observe import snapshot
from fdproof.process import PIPE, Process

__all__ = ["Outcome", "main", "restart_under_load"]

_SERVER = Path(__file__).parents[1] / "examples" / "handover_asyncio.py"
# Seconds for a server to serve, or to end.
_LONG = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        handovers: servers that have taken over.
        crashes: successors that died before.
        requests: answered with success.
        failed: of any kind: no connection, a connection that broke, no answer in time, another status.
        slowest_seconds: the longest that a request has waited.
        seconds: the whole run.
        gained: what the table of the last server has and that of the first had not, by description.
        lost: the other way round.
    """

    handovers: int
    crashes: int
    requests: int
    failed: int
    slowest_seconds: float
    seconds: float
    gained: Counter[str]
    lost: Counter[str]


def restart_under_load(
    handovers: int, crashes: int, *, server: Path = _SERVER, connections: int = 8
) -> Outcome:
    """Replace a server under load.

    Args:
        handovers: how often a successor takes over.
        crashes: how many more successors die instead, at random moments, in between.
        server: the example to run.
        connections: how many wrk keeps open.

    Raises:
        RuntimeError: a server did not start, or did not end well.
    """
    turns = [True] * handovers + [False] * crashes
    random.shuffle(turns)
    with tempfile.TemporaryDirectory(prefix="fdproof-bench-") as directory:
        place = f"{directory}/server"
        begun = time.monotonic()
        current, port = _started(server, place)
        try:
            before = _table(current)
            with _load(port, connections) as load:
                for takes_over in turns:
                    if takes_over:
                        current = _replaced(current, server, place)
                    else:
                        _crash(place)
                load.send_signal(signal.SIGINT)
                said, _ = load.communicate(timeout=_LONG)
            seconds = time.monotonic() - begun
            assert said is not None
            after = _table(current)
            current.terminate()
            if current.wait(_LONG) != 0:
                raise RuntimeError(f"the last server ended with {current.returncode}")
        finally:
            current.close()
    requests, failed, slowest = _read(said.decode())
    return Outcome(
        handovers, crashes, requests, failed, slowest, seconds, after - before, before - after
    )


def _started(server: Path, place: str) -> tuple[Process, int]:
    child = process.spawn([sys.executable, str(server), "--place", place], stdout=PIPE)
    assert child.stdout is not None
    # The pipe stays open: the server may have more to say.
    line = b""
    while not line.endswith(b"\n") and (more := os.read(child.stdout.fileno(), 100)):
        line += more
    found = re.fullmatch(rb"\d+ serves port (\d+)\n", line)
    if found is None:
        child.close()
        raise RuntimeError(f"the server said {line!r} instead of its port")
    return child, int(found[1])


def _replaced(current: Process, server: Path, place: str) -> Process:
    successor, _ = _started(server, place)
    try:
        if current.wait(_LONG) != 0:
            raise RuntimeError(f"a server that was replaced ended with {current.returncode}")
    except BaseException:
        successor.close()
        raise
    current.close()
    return successor


def _crash(place: str) -> None:
    argv = [sys.executable, "-m", crashing_successor.__name__, place]
    with process.spawn(argv) as child:
        if child.wait(_LONG) != -signal.SIGKILL:
            raise RuntimeError(f"the successor that was to crash ended with {child.returncode}")


@contextmanager
def _load(port: int, connections: int) -> Iterator[Process]:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise RuntimeError("wrk is not installed")
    argv = [wrk, "-t1", f"-c{connections}", "-d1h", f"http://127.0.0.1:{port}/"]
    with process.spawn(argv, stdout=PIPE) as child:
        yield child


def _table(server: Process) -> Counter[str]:
    """What an idle server has open, without numbers and inodes."""
    deadline = time.monotonic() + _LONG
    while True:
        found = Counter(
            re.sub(r"\d+", "N", entry.what)
            for number in snapshot.numbers(server.pid)
            if (entry := snapshot.entry(server.pid, number)) is not None
        )
        # Connections whose client has gone are closed in a moment.
        time.sleep(0.2)
        if (
            found
            == Counter(
                re.sub(r"\d+", "N", entry.what)
                for number in snapshot.numbers(server.pid)
                if (entry := snapshot.entry(server.pid, number)) is not None
            )
            or time.monotonic() > deadline
        ):
            return found


def _read(said: str) -> tuple[int, int, float]:
    requests = re.search(r"(\d+) requests in", said)
    slowest = re.search(r"Latency(?: +\S+){2} +([\d.]+)(us|ms|s|m) ", said)
    if requests is None or slowest is None:
        raise RuntimeError(f"wrk said: {said}")
    errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said
    )
    status = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    failed = sum(map(int, errors.groups())) if errors else 0
    failed += int(status[1]) if status else 0
    unit = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[slowest[2]]
    return int(requests[1]), failed, float(slowest[1]) * unit


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for, and print what came of it; returns the exit status.

    Args:
        arguments: the command line, without the program's name.
    """
    parser = argparse.ArgumentParser("benchmarks.handover", description="Restart under load.")
    parser.add_argument("--handovers", type=int, default=40)
    parser.add_argument("--crashes", type=int, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--server", type=Path, default=_SERVER)
    options = parser.parse_args(arguments)
    outcome = restart_under_load(
        options.handovers, options.crashes, server=options.server, connections=options.connections
    )
    where = machine.description()
    print(
        f"Linux {where['kernel']}, {where['processor']}, {where['cores']} cores, "
        f"Python {where['python']}; {options.server.name}, wrk with {options.connections} connections\n\n"
        f"successors that took over      {outcome.handovers:10}\n"
        f"successors that crashed        {outcome.crashes:10}\n"
        f"requests answered              {outcome.requests:10}\n"
        f"requests failed                {outcome.failed:10}\n"
        f"slowest request                {outcome.slowest_seconds * 1000:10.1f} ms\n"
        f"descriptors gained             {outcome.gained.total():10}\n"
        f"descriptors lost               {outcome.lost.total():10}\n"
        f"seconds                        {outcome.seconds:10.1f}"
    )
    return 1 if outcome.failed or outcome.gained or outcome.lost else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
