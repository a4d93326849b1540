"""Signatures of callbacks: HMAC-SHA256 over the time and the raw body, by one of two secrets while one is replaced."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta

TOLERANCE = timedelta(minutes=5)
"""How far the signed time may be from ours. A body that is sent again later is signed again."""
SECRETS_MAX = 2


class BadSignature(Exception):
    """A callback is not signed by one of our secrets, or its time is out of range. The text says which."""


def sign(secret: bytes, body: bytes, signed_at: datetime) -> str:
    """Return the signature of a body in hexadecimal digits: the HMAC of the Unix time, a full stop and the body."""
    stamp = str(int(signed_at.timestamp())).encode()
    return hmac.new(secret, stamp + b"." + body, hashlib.sha256).hexdigest()


def check(secrets: Sequence[bytes], body: bytes, *, stamp: str, signature: str, now: datetime) -> None:
    """Raise BadSignature unless one of the secrets signed the body at ``stamp``, a Unix time that is near ``now``.

    Every secret is compared, each in constant time. The newest comes first, and the one before it is still accepted.
    """
    if not 1 <= len(secrets) <= SECRETS_MAX or not all(secrets):
        raise ValueError(f"There are {len(secrets)} secrets; give the newest, and at most the one before it.")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= len("9999999999")):
        raise BadSignature("The time of the signature is not a Unix time in whole seconds.")
    if abs(now.timestamp() - int(stamp)) > TOLERANCE.total_seconds():
        raise BadSignature("The time of the signature is too far from ours.")
    signed = stamp.encode() + b"." + body
    expected = [hmac.new(secret, signed, hashlib.sha256).hexdigest().encode() for secret in secrets]
    given = signature.lower().encode("utf-8", "replace")
    matches = [hmac.compare_digest(each, given) for each in expected]
    if not any(matches):
        raise BadSignature("No secret of ours made the signature.")
