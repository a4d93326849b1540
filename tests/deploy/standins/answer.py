"""Stands in for Grafana, Zipkin and the collector: answers 200 to everything, on all of their ports."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORTS = (3000, 4318, 9411, 13133)


class Answer(BaseHTTPRequestHandler):
    """Answers 200 to every request and logs nothing."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


servers = [ThreadingHTTPServer(("", port), Answer) for port in PORTS]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
