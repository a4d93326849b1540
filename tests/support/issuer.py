"""A token issuer for tests of one process: its keys over real HTTP, and tokens that it signed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from chassis.http.auth import Verifier

ISSUER, AUDIENCE = "https://issuer.test", "baraza"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
TTL_S = 600


def token(subject: str, *roles: str) -> str:
    """Return a valid token of this caller."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + TTL_S, "roles": roles}
    return jwt.encode(claims, KEY, "RS256", headers={"kid": "1"})


def bearer(subject: str, roles: Sequence[str]) -> tuple[bytes, bytes]:
    """Return the header with such a token, as ASGI has it."""
    return b"authorization", f"Bearer {token(subject, *roles)}".encode()


class _Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"keys": [{**RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "1"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def verifying() -> Iterator[Verifier]:
    """Yield a verifier of these tokens while the keys are served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Keys)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield Verifier(f"http://127.0.0.1:{server.server_port}/jwks.json", ISSUER, AUDIENCE)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
