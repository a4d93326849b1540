"""The courier's webhooks: signed with a secret that both sides have. Every process stores them; none decides here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from chassis.http import signatures
from chassis.saga.answers import Proven
from chassis.saga.evidence import Claim
from chassis.values import json_text
from shipping.collection_bodies import PROVIDER, answer_of

STAMP, SIGNATURE = "courier-timestamp", "courier-signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class CourierCallbacks:
    """The courier's webhooks. ``secrets`` returns the secret that signs, and the one before it while it is replaced."""

    secrets: Callable[[], Sequence[bytes]]
    provider: str = PROVIDER
    headers_kept: Sequence[str] = (STAMP, SIGNATURE)

    def authenticate(self, headers: Sequence[tuple[str, str]], body: bytes, now: datetime) -> None:
        """Raise BadSignature unless the courier signed this body just now."""
        given = dict(headers)
        stamp, signature = given.get(STAMP, ""), given.get(SIGNATURE, "")
        signatures.check(self.secrets(), body, stamp=stamp, signature=signature, now=now)

    def read(self, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
        """Return what a webhook says of the attempt with its key. Raises ValueError for a body of another form."""
        collection = json_text.parse(body)
        json_text.check_texts(collection)
        if not isinstance(collection, dict):
            raise ValueError("the webhook is no object")
        answer, key = answer_of(collection), collection.get("idempotency_key")
        if not isinstance(answer, Proven):
            raise ValueError(f"a webhook reports ends; the status is {collection.get('status')!r}")
        return Claim(
            outcome=answer.outcome,
            key=key if isinstance(key, str) else None,
            provider_id=answer.provider_id,
            reference=answer.reference,
            detail=answer.detail,
        )


def secrets_in(file: Path) -> Sequence[bytes]:
    """Return the secrets of a file, one a line, the newest first. It is read anew each time: it may be replaced."""
    return file.read_bytes().split()
