"""A span as we tell of it, before any collector's library is loaded. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Kind = Literal["internal", "server", "client", "producer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that happened, as it is told to a collector. Contexts are W3C traceparents, times aware UTC."""

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
    """Return a context in the parent's trace whose span these parts always have, so that a later one can link to it."""
    fields = parent.split(b"-")
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).hexdigest()
    return b"-".join((*fields[:2], digest.encode(), *fields[3:]))
