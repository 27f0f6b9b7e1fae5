"""Keep servers running: start one again when it ends, and stop all of them on SIGTERM.

    python examples/supervisor.py --port 8000 --workers 2 python examples/web_server.py

The listening socket belongs to the supervisor, and each server finds it as descriptor 3: whoever
connects while a server is being replaced waits for the next one instead of being refused.

Pids are printed, and used for nothing else. They wrap around: on a busy machine the number of a server
that has ended is a stranger's soon. A pidfd never means another process, so this program signals the
servers that it remembers without asking whether they still run.
"""

import argparse
import signal
import socket
import time
from collections.abc import Sequence

from fdproof import process
from fdproof.process import DEVNULL, Process

LISTENER = 3
# A server that ran this long is trusted again; nothing waits longer than this for its next try.
LONG = 30.0


class Stop(BaseException):
    """The supervisor was told to stop; not an Exception, which something might catch on the way."""


def raise_stop(number: int, frame: object) -> None:
    raise Stop


class Worker:
    """One server, and those that came before it."""

    def __init__(self, name: str, argv: Sequence[str], listener: socket.socket, pause: float):
        self.name = name
        self.argv = argv
        self.listener = listener
        self.first_pause = self.pause = pause
        self.server: Process | None = None
        self.running = False
        # When it was started, or is to be.
        self.time = time.monotonic()

    def start(self) -> None:
        self.time = time.monotonic()
        self.close()
        try:
            self.server = process.spawn(
                self.argv,
                stdin=DEVNULL,
                files={LISTENER: self.listener},
                # Also after a SIGKILL of the supervisor no server is left.
                parent_death_signal=signal.SIGTERM,
            )
        except OSError as error:
            self.try_again(str(error))
        else:
            self.running = True
            self.say(f"process {self.server.pid} started")

    def ended(self) -> None:
        assert self.server is not None
        if time.monotonic() - self.time > LONG:
            self.pause = self.first_pause
        self.try_again(f"process {self.server.pid} ended with {self.server.returncode}")

    def try_again(self, reason: str) -> None:
        self.running = False
        self.time = time.monotonic() + self.pause
        self.say(f"{reason}, next try in {self.pause:g} s")
        self.pause = min(self.pause * 2, LONG)

    def say(self, text: str) -> None:
        print(f"{self.name}: {text}", flush=True)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()


def supervise(workers: Sequence[Worker]) -> None:
    while True:
        for worker in workers:
            if not worker.running and worker.time <= time.monotonic():
                worker.start()
        running = {worker.server: worker for worker in workers if worker.running and worker.server}
        tries = [worker.time for worker in workers if not worker.running]
        left = max(0.0, min(tries) - time.monotonic()) if tries else None
        if running:
            for server in process.wait_many(running, left):
                running[server].ended()
        else:
            time.sleep(left or 0)


def stop(workers: Sequence[Worker], grace: float) -> None:
    servers = [worker.server for worker in workers if worker.server]
    for server in servers:
        # Nobody gets it in place of one that has ended, whoever has its number now.
        server.terminate()
    process.wait_many(servers, grace, count=None)
    for server in servers:
        if server.poll() is None:
            server.kill_tree()


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep servers running.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds before the next try")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds to stop in")
    parser.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND ...")
    options = parser.parse_args()
    if not options.argv:
        parser.error("a server to run is missing")

    with socket.create_server(("127.0.0.1", options.port)) as listener:
        # All servers share the file: one that comes too late for a connection must not block.
        listener.setblocking(False)
        print(f"listening on port {listener.getsockname()[1]}", flush=True)
        workers = [
            Worker(f"worker {number}", options.argv, listener, options.pause)
            for number in range(1, options.workers + 1)
        ]
        try:
            signal.signal(signal.SIGTERM, raise_stop)
            signal.signal(signal.SIGINT, raise_stop)
            supervise(workers)
        except Stop:
            stop(workers, options.grace)
        finally:
            # Kills what still runs: a second signal ends the grace.
            for worker in workers:
                worker.close()
    print("stopped", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
