"""Amounts, times, phones, codes and ids as providers of mobile money write them. Pure.

Nothing here guesses: what has another form than agreed raises ValueError, with what is wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Final

from chassis.wire.envelope import ALPHABET

NAIROBI: Final = timezone(timedelta(hours=3))
"""Kenya has no daylight saving, and Daraja writes no zone."""
MINOR: Final = 100
"""Cents of a shilling. Every request is of whole shillings."""
AMOUNT_MINOR_MAX: Final = 10**15
CODE_LENGTH_MAX: Final = 40
ORIGINATOR_LENGTH: Final = 20
"""One page of Daraja's says fewer than 20 characters, its sample has 36; 20 are taken by both."""

STAMP: Final = "%Y%m%d%H%M%S"
FORMS: Final = (
    (re.compile(r"\d{14}"), STAMP),
    (re.compile(r"\d{2}\.\d{2}\.\d{4} \d{2}:\d{2}:\d{2}"), "%d.%m.%Y %H:%M:%S"),
    (re.compile(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}"), "%Y-%m-%d %H:%M:%S"),
    (re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}"), "%Y-%m-%dT%H:%M:%S"),
)
PHONE: Final = re.compile(r"254[17]\d{8}")
HASHED: Final = re.compile(r"[0-9a-f]{64}")
RECEIPT: Final = re.compile(r"[A-Z0-9]{6,36}")


def amount_minor(value: object) -> int:
    """Return an amount in cents: 5, "5.00", 5.0 and "1,234.00" are whole shillings; a fraction of one is refused."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"The amount is {value!r}, and no number")
    try:
        found = Decimal(str(value).strip().replace(",", ""))
    except InvalidOperation as error:
        raise ValueError(f"The amount {value!r} is no number") from error
    if not found.is_finite() or found != found.to_integral_value():
        raise ValueError(f"The amount {value!r} has a fraction of a shilling")
    minor = int(found) * MINOR
    if abs(minor) > AMOUNT_MINOR_MAX:
        raise ValueError(f"The amount {value!r} is larger than any that can be")
    return minor


def balance_minor(value: object) -> int:
    """Return a balance in cents, which may have a fraction of a shilling and be negative. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"The balance is {value!r}, and no number")
    try:
        found = Decimal(str(value).strip().replace(",", "")) * MINOR
    except InvalidOperation as error:
        raise ValueError(f"The balance {value!r} is no number") from error
    if not found.is_finite() or found != found.to_integral_value() or abs(found) > AMOUNT_MINOR_MAX:
        raise ValueError(f"The balance {value!r} is none in whole cents")
    return int(found)


def whole(minor: int) -> int:
    """Return cents as the whole shillings that a request has. Raises ValueError."""
    if minor <= 0 or minor % MINOR:
        raise ValueError(f"{minor} cents are no whole shillings; ask for whole ones")
    return minor // MINOR


def time_of(value: object) -> datetime:
    """Return a provider's time, which is Nairobi's, in UTC. A trailing Z of a pull's answer is Nairobi's as well."""
    text = str(value).strip().removesuffix("Z")
    text = re.sub(r"\.\d+$", "", text) if "-" in text else text
    for form, written in FORMS:
        if form.fullmatch(text):
            return datetime.strptime(text, written).replace(tzinfo=NAIROBI).astimezone(UTC)
    raise ValueError(f"The time {value!r} has another form than agreed")


def stamp(at: datetime) -> str:
    """Return a time as the 14 digits of a request."""
    return at.astimezone(NAIROBI).strftime(STAMP)


def phone_of(value: object) -> str:
    """Return a phone's 12 digits: 07…, 01…, 7…, 1…, 254… and +254…, with blanks and hyphens. Raises ValueError."""
    digits = re.sub(r"[\s-]", "", str(value)).removeprefix("+")
    if re.fullmatch(r"0[17]\d{8}", digits):
        digits = digits[1:]
    if re.fullmatch(r"[17]\d{8}", digits):
        digits = f"254{digits}"
    if not digits.isascii() or not PHONE.fullmatch(digits):
        raise ValueError("It is no phone of Kenya; write it as 254712345678")
    return digits


def payer_hash(key: bytes, msisdn: object) -> str | None:
    """Return the keyed hash of a payer's phone, clear or as the provider's SHA-256 of it; None for a mask."""
    text = str(msisdn or "").strip().lower()
    if not HASHED.fullmatch(text):
        try:
            text = hashlib.sha256(phone_of(text).encode()).hexdigest()
        except ValueError:
            return None
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest() if key else None


def receipt_of(value: object) -> str:
    """Return a receipt's number, in capitals. Raises ValueError."""
    found = str(value or "").strip().upper()
    if not RECEIPT.fullmatch(found):
        raise ValueError(f"The receipt {found[:40]!r} has another form than agreed")
    return found


def storable(text: str) -> str:
    """Return a text as PostgreSQL can hold it: without NULs and halves of surrogate pairs."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def code_of(value: object) -> str:
    """Return a code as text: it comes as a number or as a text, and 0 and "0" are the same."""
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return storable(str(value).strip())[:CODE_LENGTH_MAX]


def originator_of(key: str) -> str:
    """Return our id of an attempt at Daraja: derived from its key, 20 characters of A–Z and 0–9."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest())
    letters = "".join(ALPHABET[number >> shift & 31] for shift in range(0, 5 * (ORIGINATOR_LENGTH - 1), 5))
    return f"B{letters}"


def reference_of(key: str) -> str:
    """Return our id of an attempt at MoMo: a UUID of version 4's form, derived from its key."""
    digest = bytearray(hashlib.sha256(key.encode()).digest()[:16])
    digest[6], digest[8] = digest[6] & 0x0F | 0x40, digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))
