"""A message for people who look for a fault: its form, its ids and its amounts, without what may be personal. Pure.

Only listed names keep their texts, so a field that a later release adds is masked until it is listed here.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

MASK: Final = "•••"
LENGTH_MAX: Final = 16_384
"""Of the body as text. A longer one is not read on a page."""
HEADER_LENGTH_MAX: Final = 1_000
HEADERS_MAX: Final = 50
SMALL: Final = 1_000_000
"""A greater number may be of a telephone or a card, unless its name says that it is an amount or an id."""
KEPT: Final = frozenset({
    "message_id", "saga_id", "saga_type", "causation_id", "order_id", "return_id", "payment_id", "refund_id",
    "merchant_id", "currency", "step", "service", "services", "steps", "state", "kind", "cause", "act", "resolution",
    "sku", "gateway", "mode", "type",
})  # fmt: skip
"""Names whose texts are kept. A customer's id is none of them: it may be an address of e-mail."""
ID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
TRACES: Final = ("traceparent", "tracestate")


def masked(message: Any) -> str | None:
    """Return a message as JSON for people; None where it is longer than anybody reads."""
    text = json.dumps(_masked("", dataclasses.asdict(message)), ensure_ascii=False)
    return text if len(text) <= LENGTH_MAX else None


def shown_headers(headers: Sequence[tuple[str, bytes]]) -> str:
    """Return headers as a JSON list of name and value, without those of traces. Services write no personal values."""
    shown = [(name, value) for name, value in headers if name not in TRACES][:HEADERS_MAX]
    return json.dumps([[_plain(name), _plain(value.decode("utf-8", "backslashreplace"))] for name, value in shown])


def _plain(text: str) -> str:
    return text.replace("\x00", "")[:HEADER_LENGTH_MAX]


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _masked(str(key), each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(name, each) for each in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int):
        is_kept = abs(value) < SMALL or name.endswith(("_minor", "_id")) or name in KEPT
        return value if is_kept else MASK
    text = str(value)
    return text.replace("\x00", "") if name in KEPT or ID.fullmatch(text) else MASK
