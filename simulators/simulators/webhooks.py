"""Sends what has become due: signed, again where it is not taken, and never twice at once.

The signature is the HMAC-SHA256 of the Unix time, a full stop and the body, by a secret that both sides have.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Callable
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

from simulators.parcels import WEBHOOK, Clock, advance
from simulators.records import Record, Records

ROUND_S = 0.2
TIMEOUT_S = 5.0
SENT_MAX = 100
"""Webhooks of one round; the next continues."""
SENDS_MAX = 12
"""With waits that double from one second: an hour. Then the shop has to ask."""

Send = Callable[[str, bytes, dict[str, str]], int]
"""Sends a body to a URL with these headers, and returns the status of the answer; 0 without an answer."""


def sign(secret: bytes, body: bytes, stamp: int) -> str:
    """Return the signature of a body in hexadecimal digits."""
    return hmac.new(secret, f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()


def send(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Send a body once."""
    try:
        return urllib3.request("POST", url, body=body, headers=headers, retries=False, timeout=TIMEOUT_S).status
    except HTTPError:
        return 0


def deliver(records: Records, url: str, secret: bytes, *, clock: Clock, sending: Send = send) -> None:
    """Send the webhooks that are due, each outside of a transaction."""
    for each in records.of_state(WEBHOOK, "due", SENT_MAX):
        now = clock()
        if _number(each, "due_at") > now:
            continue
        body = json.dumps(each.fields["body"]).encode()
        stamp = int(now)
        headers = {
            "Content-Type": "application/json",
            "Courier-Timestamp": str(stamp),
            "Courier-Signature": sign(secret, body, stamp),
        }
        status = sending(url, body, headers)
        with records.transaction():
            records.update(_after(each, now, is_taken=200 <= status < 300))


def _after(webhook: Record, now: float, *, is_taken: bool) -> Record:
    sends = int(_number(webhook, "sends")) + 1
    if is_taken:
        return webhook.become("delivered", sends=sends)
    if sends >= SENDS_MAX:
        return webhook.become("given_up", sends=sends)
    return webhook.become("due", sends=sends, due_at=now + 2.0 ** (sends - 1))


def _number(webhook: Record, name: str) -> float:
    value = webhook.fields[name]
    assert isinstance(value, float | int), "it was written by this package"
    return float(value)


def secret_in(file: Path | None) -> bytes:
    """Return the first line of a file, read anew each time: the secret that signs may be replaced."""
    return b"" if file is None else file.read_bytes().split()[0]


def run(
    path: Path, url: str | None, secret_file: Path | None, *, clock: Clock, seed: int, stopping: threading.Event
) -> None:
    """End collections and send webhooks until the event is set, on a connection of its own.

    Without a URL none is sent.
    """
    with Records.open(path) as records:
        while not stopping.wait(ROUND_S):
            advance(records, now=clock(), seed=seed)
            if url is not None:
                deliver(records, url, secret_in(secret_file), clock=clock)
