"""Files of orders: JSON Lines, each a body of ``POST /v1/orders``.

An ``idempotency_key`` and a ``submitted_at`` may stand beside the body's own fields; they are removed from it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from baraza.storefront.tabular import unreadable
from baraza.terminal import UsageRefusal
from chassis.values.json_text import JsonFlaw, parse
from chassis.values.times import rfc3339

LINE_BYTES_MAX = 1_048_576
"""The longest body that checkout accepts."""
KEY_LENGTH_MAX = 128
ORDERS = "POST /v1/orders"
DIGEST_DIGITS = 32
KEY_EXPECTED = f"1 to {KEY_LENGTH_MAX} printable ASCII characters, no spaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One order to submit: its body, and the key that makes the submission repeatable."""

    key: str
    body: dict[str, Any]
    where: str = ""
    """Where it was read: the file and the line."""


def read(path: Path, name: str | None = None) -> Iterator[Submission]:
    """Yield the orders of a file, line by line. Raises UsageRefusal, which names the line.

    A line without a key has one that follows from its number and its bytes, so that a repeated file changes nothing.
    ``name`` is what messages call the file, if not by its path.
    """
    named = name or str(path)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(LINE_BYTES_MAX + 1):
                number += 1
                if len(line) > LINE_BYTES_MAX:
                    raise UsageRefusal(
                        f"{named}, line {number}: longer than {LINE_BYTES_MAX} bytes; write one order a line."
                    )
                if text := line.removeprefix(BOM_UTF8).strip():
                    yield submission(
                        _parse(named, number, line), f"{named}, line {number}", key_of_line=_derived(number, text)
                    )
    except OSError as error:
        raise unreadable(Path(named), error) from error


def _parse(name: str, number: int, line: bytes) -> object:
    try:
        return parse(line)
    except UnicodeDecodeError as error:
        raise UsageRefusal(
            f"{name}, line {number}: not UTF-8 at byte {error.start}; save the file as UTF-8."
        ) from error
    except JsonFlaw as flawed:
        raise UsageRefusal(f"{name}, line {number}: {flawed}") from flawed
    except (ValueError, RecursionError) as error:
        flaw = f"column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise UsageRefusal(f"{name}, line {number}, {flaw}; expected one JSON object a line.") from error


def _derived(number: int, line: bytes) -> str:
    return f"line-{number}-{hashlib.sha256(line).hexdigest()[:DIGEST_DIGITS]}"


def submission(value: object, where: str, key_of_line: str | None = None, *, request: str = ORDERS) -> Submission:
    """Return an order, without key and time in its body. Raises UsageRefusal, whose text begins with ``where``.

    An order without a key has ``key_of_line``, or a random one.
    """
    if not isinstance(value, dict):
        raise UsageRefusal(f"{where}: {type(value).__name__}; expected a JSON object, the body of {request}.")
    body = dict(value)
    key = body.pop("idempotency_key", None)
    submitted_at = body.pop("submitted_at", None)
    if key is None:
        key = key_of_line or str(uuid.uuid4())
    if not is_key(key):
        raise UsageRefusal(f"{where}, idempotency_key: {key!r}; expected {KEY_EXPECTED}.")
    if submitted_at is not None and not _is_time(submitted_at):
        raise UsageRefusal(f"{where}, submitted_at: {submitted_at!r}; expected a time such as 2017-01-01T11:53:26Z.")
    if not _is_sendable(body):
        raise UsageRefusal(f"{where}: contains NaN, an infinite number or half a character; write JSON in UTF-8.")
    return Submission(key=key, body=body, where=where)


def is_key(value: object) -> TypeGuard[str]:
    """Return whether this is a valid idempotency key."""
    if not isinstance(value, str) or not 0 < len(value) <= KEY_LENGTH_MAX:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def _is_sendable(body: object) -> bool:
    """Return whether the body can be written as JSON: Python's parser accepts values that its writer refuses."""
    try:
        json.dumps(body, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and rfc3339(value) is not None
    except ValueError:
        return False
