"""The endpoints of a run's merchants: one HTTP server on this machine, which verifies every event."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 1_000_000
OK, REFUSED = 204, 400


@dataclass(kw_only=True)
class Listener:
    """What came. ``secrets`` are those of the endpoints by merchant, as the notifier gave them."""

    url: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    """The type of each verified event by its id; one that comes twice counts once."""
    refused: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, merchant_id: str, body: bytes, headers: dict[str, str]) -> int:
        """Keep an event whose signature is right, and return the status of the answer."""
        secret = self.secrets.get(merchant_id)
        is_right = secret is not None and _is_signed(secret, body, headers)
        with self._lock:
            if is_right:
                self.types[headers["webhook-id"]] = str(json.loads(body)["type"])
            else:
                self.refused += 1
        return OK if is_right else REFUSED

    def counts(self) -> Counter[str]:
        """Return how many events of each type came."""
        with self._lock:
            return Counter(self.types.values())


@contextmanager
def listening() -> Iterator[Listener]:
    """Serve the endpoints on a free port of the loopback; a merchant's is ``<url>/<merchant id>``."""
    listener = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = min(int(self.headers.get("Content-Length") or 0), BODY_BYTES_MAX)
            headers = {name.lower(): text for name, text in self.headers.items()}
            self.send_response(listener.take(self.path.strip("/"), self.rfile.read(length), headers))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Write nothing: the result says what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    listener.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_signed(secret: str, body: bytes, headers: dict[str, str]) -> bool:
    """Return whether a body is signed with the secret, by Standard Webhooks 1.0.0."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    expected = "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    sent = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected, each) for each in sent)
