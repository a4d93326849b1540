"""Fingerprints of requests: by them a repeated request is known, also by another release. Pure.

Rule 1 is SHA-256 over the values of a request as compact JSON with sorted members, without those that are None, after
the rules for texts were applied. So neither the order of members, nor blanks, nor a written default matters.

A rule must never change. A new field is optional and None where it is not given, so it changes no fingerprint of a body
that lacks it. If another rule is ever needed, one release must read its fingerprints before the next one stores them.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from pydantic import TypeAdapter

RULE: Final = 1


class UnknownRule(Exception):
    """A stored fingerprint is of a rule that this release lacks. Complete the upgrade: a newer release stored it."""


def fingerprint(adapter: TypeAdapter[Any], body: Any, *path: int) -> bytes:
    """Return the fingerprint of a body by rule 1; ``path`` are the ids in the path of the request."""
    values = adapter.dump_python(body, mode="json", exclude_none=True)
    text = json.dumps([*map(str, path), values], sort_keys=True, separators=(",", ":"))
    return bytes([RULE]) + hashlib.sha256(text.encode()).digest()


def is_of(stored: bytes, sent: bytes) -> bool:
    """Return whether a stored fingerprint and one of this release are of the same request. Raises UnknownRule."""
    if stored[0] != RULE:
        raise UnknownRule(f"A fingerprint of rule {stored[0]}; this release knows rule {RULE}.")
    return stored == sent


def key_digest(merchant_id: str, route: str, key: str, *, is_live: bool) -> bytes:
    """Return what an idempotency key is stored as.

    Each part has its length before it: ``ab`` and ``c`` are other parts than ``a`` and ``bc``.
    """
    texts = (merchant_id, "live" if is_live else "test", route, key)
    return hashlib.sha256(b"".join(_prefixed(each) for each in texts)).digest()


def _prefixed(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4) + encoded
