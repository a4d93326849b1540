"""Dead letters: messages that cannot be handled are published with their original bytes, and the reason in headers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from chassis.saga.deferred import RawMessage
from chassis.saga.outbox import OutboxRow
from chassis.wire.envelope import Headers, header

TYPE = "dead-letter"
REASON_LENGTH_MAX = 1_000
"""A reason is read by a person; an exception's text can have megabytes."""

PAYLOAD_BYTES_MAX = 8_388_608
HEADERS_BYTES_MAX = 1_048_576
KEY_BYTES_MAX = 65_536
HEADER_OVERHEAD_BYTES = 16
"""A message that compresses well may have a gigabyte when it is unpacked. The dead letter has the beginning of what is
longer than these limits, and names what was cut. Together they fit into one message. A header counts with its lengths,
so that a million empty ones count as well."""

COUNT_FORM = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Why a message became a dead letter, in which service, and for which step (None where it concerns no step).

    ``reason`` is the same for every message that failed for the same cause; ``detail`` has what differs. ``redrive``
    is the number of the last redrive, 0 before the first.
    """

    service: str
    step: str | None
    reason: str
    attempts: int
    detail: str = ""
    redrive: int = 0

    @property
    def topic(self) -> str:
        """The dead-letter topic of the step, or of the service where it concerns no step."""
        return f"{self.step or self.service}.dlq"


def dead_letter_row(raw: RawMessage, letter: DeadLetter, *, row_id: str) -> OutboxRow:
    """Return a dead letter's outbox row: original key, bytes and headers, and the rest in ``baraza_*`` headers."""
    kept, cut = _kept(raw)
    key = kept.key or b""
    added = (
        ("baraza_service", letter.service),
        ("baraza_step", letter.step or ""),
        ("baraza_reason", letter.reason[:REASON_LENGTH_MAX]),
        ("baraza_detail", letter.detail[:REASON_LENGTH_MAX]),
        ("baraza_attempts", str(letter.attempts)),
        ("baraza_redrive", str(letter.redrive)),
        ("baraza_topic", raw.topic),
        ("baraza_key", key.hex()),
        *((("baraza_cut", cut),) if cut else ()),
    )
    return OutboxRow(
        id=row_id,
        topic=letter.topic,
        saga_id=key.decode("utf-8", "backslashreplace").replace("\x00", "\\x00"),
        type=TYPE,
        payload=kept.value or b"",
        headers=(*kept.headers, *((name, value.encode("utf-8", "backslashreplace")) for name, value in added)),
        partition=raw.partition,
        cause=raw.headers,
    )


def _kept(raw: RawMessage) -> tuple[RawMessage, str]:
    """Return as much of a message as a dead letter can hold, and a description of what was cut, empty as a rule."""
    key, value = raw.key or b"", raw.value or b""
    header_bytes = sum(len(name.encode()) + len(each) + HEADER_OVERHEAD_BYTES for name, each in raw.headers)
    cut = [
        f"{what}: the first {bytes_max} of {length} bytes"
        for what, length, bytes_max in (
            ("key", len(key), KEY_BYTES_MAX),
            ("payload", len(value), PAYLOAD_BYTES_MAX),
        )
        if length > bytes_max
    ]
    if header_bytes > HEADERS_BYTES_MAX:
        cut.append(f"headers: none of {header_bytes} bytes")
    if raw.headers_flaw:
        cut.append(f"headers: none. {raw.headers_flaw}")
    if not cut:
        return raw, ""
    headers = () if header_bytes > HEADERS_BYTES_MAX else raw.headers
    return replace(raw, key=key[:KEY_BYTES_MAX], value=value[:PAYLOAD_BYTES_MAX], headers=headers), "; ".join(cut)


def read(headers: Headers) -> DeadLetter:
    """Return a dead letter from its headers. A missing header reads as empty, so that no dead letter is lost."""

    def text(name: str) -> str:
        return (header(headers, name) or b"").decode("utf-8", "backslashreplace")

    def count(name: str) -> int:
        value = text(name)
        return int(value) if COUNT_FORM.fullmatch(value) else 0

    return DeadLetter(
        service=text("baraza_service"),
        step=text("baraza_step") or None,
        reason=text("baraza_reason"),
        detail=text("baraza_detail"),
        attempts=count("baraza_attempts"),
        redrive=count("baraza_redrive"),
    )
