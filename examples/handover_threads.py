"""The shortest server that is replaced while it works: ``http.server`` in threads.

    python examples/handover_threads.py /tmp/server.sock

Start it again, and the second takes over from the first.
"""

import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fdproof import handover


class Greeting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = f"hello from {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


class Server(ThreadingHTTPServer):
    # The end waits for the requests that are being answered.
    daemon_threads = False

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(("", 0), Greeting, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        # For a moment both processes accept: who comes too late must not wait in accept.
        listener.setblocking(False)


def main() -> None:
    with handover.take(sys.argv[1]) as taken:
        if taken:
            listener = taken.sockets.take_socket("http")
        else:
            listener = socket.create_server(("127.0.0.1", 0))
        server = Server(listener)
        # Everything that can fail has been done.
        taken.ready()
        offer = handover.offer(taken, {"http": listener}, failed=print)

    with offer, server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        print(f"{os.getpid()} serves port {listener.getsockname()[1]}", flush=True)
        try:
            offer.wait()
        finally:
            server.shutdown()
            serving.join()


if __name__ == "__main__":
    main()
