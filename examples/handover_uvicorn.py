"""An ASGI application under uvicorn that is replaced while it works, without a request lost.

    python examples/handover_uvicorn.py --port 8000 --place /tmp/server.sock

Start it again, and the second takes over from the first once its application has started. SIGHUP makes
it start its own successor, SIGTERM and SIGINT stop it, as uvicorn does.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import uvicorn

from fdproof import handover, process


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """The application."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": f"{message['type']}.complete"})
    elif scope["type"] == "http":
        body = f"hello from {os.getpid()}\n".encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Replaceable:
    """Any ASGI application: it takes over when it has started, and lets its clients go when replaced."""

    def __init__(self, application: Any, taken: handover.Taken) -> None:
        self.application = application
        self.taken = taken
        self.serves = asyncio.Event()
        self.replaced = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def pass_on(message: Any) -> None:
            if message["type"] == "lifespan.startup.complete":
                # uvicorn accepts connections from here on, and not before.
                await self.taken.ready_async()
                self.serves.set()
            elif message["type"] == "http.response.start" and self.replaced:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self.application(scope, receive, pass_on)


async def leave(server: uvicorn.Server, grace: float) -> None:
    """Accept nothing more, answer what has come, and stop."""
    for accepting in server.servers:
        accepting.close()
    # What was accepted last is among the connections by then.
    await asyncio.sleep(0.1)
    with suppress(TimeoutError):
        async with asyncio.timeout(grace):
            while server.server_state.connections:
                await asyncio.sleep(0.05)
    server.should_exit = True


def part_with(successors: Sequence[process.Process], offer: handover.Offer) -> None:
    """Let the one live on that has taken over; those that failed, or came too late, end here."""
    for child in successors:
        if offer.successor is not None and child.same_process(offer.successor):
            child.detach().close()
        child.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description="An application that can be replaced.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--place", required=True, help="path at which successors take over")
    parser.add_argument("--grace", type=float, default=5.0, help="seconds for requests to end")
    options = parser.parse_args()

    # uvicorn stops on this signal, and then raises it again: too early for the end of the blocks below.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with await handover.take_async(options.place) as taken:
        if taken:
            listener = taken.sockets.take_socket("http")
        else:
            listener = socket.create_server(("127.0.0.1", options.port))
        application = Replaceable(hello, taken)
        server = uvicorn.Server(
            uvicorn.Config(application, lifespan="on", log_level="warning", backlog=1024)
        )
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        started = asyncio.create_task(application.serves.wait())
        await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            raise SystemExit("the application did not start")
        offer = handover.offer(taken, {"http": listener}, failed=print)

    with offer:
        waiting = asyncio.create_task(offer.wait_async())
        successors: list[process.Process] = []
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, lambda: successors.append(process.spawn(sys.orig_argv))
        )
        print(f"{os.getpid()} serves port {listener.getsockname()[1]}", flush=True)

        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        part_with(successors, offer)
        if not serving.done():
            application.replaced = True
            await leave(server, options.grace)
        await serving


if __name__ == "__main__":
    asyncio.run(main())
