"""Signatures and secrets by Standard Webhooks 1.0.0: HMAC-SHA256 over id, time and body, with each secret in use."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
"""The standard allows 24 to 64."""
OVERLAP: Final = timedelta(hours=24)
"""How long the secret before still signs, after it was replaced."""
SECRETS_MAX: Final = 5
"""Secrets that sign at once, however often one is replaced within a day. The oldest ones end first."""


def new_secret() -> str:
    """Return a new secret, as the receiver keeps it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the key of a secret: what its text encodes, without the prefix."""
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)


def sign(secret: str, webhook_id: str, at: datetime, body: bytes) -> str:
    """Return one signature, with its version."""
    signed = f"{webhook_id}.{int(at.timestamp())}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def headers(secrets_: Sequence[str], webhook_id: str, at: datetime, body: bytes) -> Mapping[str, str]:
    """Return the headers of one attempt; ``at`` is the attempt's time, not the event's."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(sign(secret, webhook_id, at, body) for secret in secrets_),
    }
