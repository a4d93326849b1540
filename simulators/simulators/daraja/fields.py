"""The fields of Daraja's requests: each is valid, or the refusal names it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from simulators.daraja.dialect import FOUR_MEANINGS, error, invalid
from simulators.face import Refused
from simulators.mobile.books import TRANSACTION_MAX
from simulators.mobile.face import Call
from simulators.mobile.phones import MSISDN

FORBIDDEN = re.compile(r"(?i)(?<![a-z0-9])(m-?pesa|safaricom|exe|exec|cmd|sql|query)(?![a-z0-9])")
"""Words that no registered URL may have."""
ORIGINATOR = re.compile(r"[A-Za-z0-9_-]{1,50}")


def text(call: Call, name: str, length_min: int, length_max: int) -> str:
    """Return a text of some length. Raises Refused."""
    value = call.text(name)
    if not length_min <= len(value) <= length_max:
        raise invalid(name)
    return value


def whole(call: Call, name: str = "Amount", *, least: int = 1, most: int = TRANSACTION_MAX) -> int:
    """Return whole shillings, as a number or its digits. Raises Refused."""
    value = call.params.get(name)
    digits = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,12}", digits) or not least <= int(digits) <= most:
        raise invalid(name)
    return int(digits)


def phone(call: Call, name: str) -> str:
    """Return twelve digits, which may be a number or text. Raises Refused."""
    value = call.text(name)
    if MSISDN.fullmatch(value) is None:
        raise invalid(name)
    return value


def own(call: Call, name: str) -> str:
    """Return the short code of a request, which is that of the token. Raises Refused."""
    value = call.text(name)
    if not re.fullmatch(r"[0-9]{5,7}", value):
        raise invalid(name)
    if value != call.short_code.short_code:
        raise Refused(error(500, FOUR_MEANINGS, "Merchant does not exist"))
    return value


def url(call: Call, name: str, *, is_registered: bool = False) -> str:
    """Return an address; one that is registered has none of the forbidden words. Raises Refused."""
    value = call.text(name)
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise invalid(name)
    if is_registered and FORBIDDEN.search(parts.path):
        raise invalid(name)
    return value


def choice(call: Call, name: str, known: tuple[str, ...]) -> str:
    """Return one of some words, in their exact case. Raises Refused."""
    value = call.text(name)
    if value not in known:
        raise invalid(name)
    return value
