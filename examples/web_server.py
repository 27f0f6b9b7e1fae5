"""A web server on a listening socket that was made for it: descriptor 3, see supervisor.py."""

import http.server
import os
import socket

LISTENER = 3


class Greeting(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = f"hello from {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def main() -> None:
    with (
        http.server.HTTPServer(("", 0), Greeting, bind_and_activate=False) as server,
        socket.socket(fileno=LISTENER) as listener,
    ):
        server.socket.close()
        server.socket = listener
        server.serve_forever()


if __name__ == "__main__":
    main()
