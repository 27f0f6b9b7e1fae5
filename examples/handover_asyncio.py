"""A web server in asyncio that is replaced while it works, without a connection refused or dropped.

    python examples/handover_asyncio.py --port 8000 --place /tmp/server.sock

Start it again, from a new version for instance, and the second takes over from the first. Or send it
SIGHUP, and it starts its own successor. SIGTERM stops it. If a successor fails on the way, the server
goes on as if nothing had happened.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

from fdproof import handover, process


class Server:
    def __init__(self) -> None:
        self.connections: set[asyncio.Task[None]] = set()
        self.leaving = False

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self.serve(reader, writer))
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            closing = False
            while not closing:
                await reader.readuntil(b"\r\n\r\n")
                # The client sends its next request to whoever serves then.
                closing = self.leaving
                body = f"hello from {os.getpid()}\n".encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n%s"
                    % (len(body), b"close" if closing else b"keep-alive", body)
                )
                await writer.drain()
        writer.close()

    async def drain(self, grace: float) -> None:
        self.leaving = True
        # What was accepted last has its task by then.
        await asyncio.sleep(0.1)
        if self.connections:
            _, idle = await asyncio.wait(self.connections, timeout=grace)
            for task in idle:
                task.cancel()


def part_with(successors: Sequence[process.Process], offer: handover.Offer) -> None:
    """Let the one live on that has taken over; those that failed, or came too late, end here."""
    for child in successors:
        if offer.successor is not None and child.same_process(offer.successor):
            child.detach().close()
        child.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description="A web server that can be replaced.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--place", required=True, help="path at which successors take over")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds for connections to end")
    options = parser.parse_args()

    server = Server()
    with await handover.take_async(options.place) as taken:
        if taken:
            listener = taken.sockets.take_socket("http")
        else:
            listener = socket.create_server(("127.0.0.1", options.port))
        accepting = await asyncio.start_server(
            server.connected, sock=listener, backlog=1024, start_serving=False
        )
        await taken.ready_async()
        offer = handover.offer(taken, {"http": listener}, failed=print)

    with offer:
        waiting = asyncio.create_task(offer.wait_async())
        successors: list[process.Process] = []
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(
            signal.SIGHUP, lambda: successors.append(process.spawn(sys.orig_argv))
        )
        loop.add_signal_handler(signal.SIGTERM, waiting.cancel)
        await accepting.start_serving()
        print(f"{os.getpid()} serves port {listener.getsockname()[1]}", flush=True)

        with suppress(asyncio.CancelledError):
            await waiting
        accepting.close()
        part_with(successors, offer)
    await server.drain(options.grace)


if __name__ == "__main__":
    asyncio.run(main())
