"""A span, independent of any collector's library. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["internal", "server", "client", "producer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Work with a beginning and an end, for a collector. Contexts are W3C traceparents, times aware UTC."""

    name: str
    traceparent: bytes
    parent: bytes | None
    began_at: datetime
    ended_at: datetime
    attributes: Mapping[str, str | int]
    kind: Kind = "internal"
    failure: str | None = None
    links: Sequence[bytes] = ()


def derived_traceparent(parent: bytes, *parts: str | int) -> bytes:
    """Return the context in the parent's trace that these parts always lead to, so that a later span can link to it."""
    fields = parent.split(b"-")
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).hexdigest()
    return b"-".join((*fields[:2], digest.encode(), *fields[3:]))
