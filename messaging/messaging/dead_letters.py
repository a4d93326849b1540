"""Dead letters: what cannot be handled leaves through the outbox with its original bytes, and the reason in headers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from messaging.deferred import RawMessage
from messaging.envelope import Headers, header
from messaging.outbox import OutboxRow

TYPE = "dead-letter"
REASON_LENGTH_MAX = 1_000
"""A reason is for a person to read; an exception's text can be megabytes."""

ATTEMPTS_FORM = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Why a message was given up, by which service, and for which step (None where no step is meant)."""

    service: str
    step: str | None
    reason: str
    attempts: int

    @property
    def topic(self) -> str:
        """The dead-letter topic of the step, or of the service where no step is meant."""
        return f"{self.step or self.service}.dlq"


def dead_letter_row(raw: RawMessage, letter: DeadLetter, *, row_id: str) -> OutboxRow:
    """Return a dead letter's outbox row: original key, bytes and headers, and the rest in ``baraza_*`` headers."""
    added = (
        ("baraza_service", letter.service),
        ("baraza_step", letter.step or ""),
        ("baraza_reason", letter.reason[:REASON_LENGTH_MAX]),
        ("baraza_attempts", str(letter.attempts)),
        ("baraza_topic", raw.topic),
        ("baraza_key", (raw.key or b"").hex()),
    )
    key = (raw.key or b"").decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
    return OutboxRow(
        id=row_id,
        topic=letter.topic,
        saga_id=key,
        type=TYPE,
        payload=raw.value or b"",
        headers=(*raw.headers, *((name, value.encode("utf-8", "backslashreplace")) for name, value in added)),
        partition=raw.partition,
        cause=raw.headers,
    )


def read(headers: Headers) -> DeadLetter:
    """Return what the headers of a dead letter say; what is missing reads as empty, so that none is ever lost."""

    def text(name: str) -> str:
        return (header(headers, name) or b"").decode("utf-8", "backslashreplace")

    attempts = text("baraza_attempts")
    return DeadLetter(
        service=text("baraza_service"),
        step=text("baraza_step") or None,
        reason=text("baraza_reason"),
        attempts=int(attempts) if ATTEMPTS_FORM.fullmatch(attempts) else 0,
    )
