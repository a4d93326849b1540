"""What providers' codes mean for the money, by what was requested. Pure; the texts beside codes decide nothing.

A code that is not here is uncertain, never a failure. One code means different things: 2001 is the payer's PIN for a
prompt, and the password of our initiator for a payout.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chassis.saga.attempts import Outcome


class Meaning(enum.StrEnum):
    """What a code proves."""

    PAID = "PAID"
    REFUSED = "REFUSED"
    """It failed for good, by what the member or the phone is."""
    OURS = "OURS"
    """It failed by our fault: float, credentials, a product that is not assigned. The lane is paused."""
    UNCERTAIN = "UNCERTAIN"
    DUPLICATE = "DUPLICATE"
    """The provider has this request already."""
    NOT_FOUND = "NOT_FOUND"
    """A query found nothing now. It proves nothing."""

    @property
    def outcome(self) -> Outcome | None:
        """What it proves of an attempt; None: nothing."""
        return OUTCOMES.get(self)


OUTCOMES: Final[Mapping[Meaning, Outcome]] = {
    Meaning.PAID: Outcome.SUCCEEDED,
    Meaning.REFUSED: Outcome.REFUSED,
    Meaning.OURS: Outcome.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What one code means. ``reason`` is our name of it, in events and texts."""

    meaning: Meaning
    reason: str


def _codes(meaning: Meaning, **reasons: str) -> dict[str, Code]:
    return {code.lstrip("_"): Code(meaning=meaning, reason=reason) for code, reason in reasons.items()}


UNKNOWN: Final = Code(meaning=Meaning.UNCERTAIN, reason="unknown_code")
NOT_REACHED: Final = frozenset({"1037", "1019", "1025", "9999"})
"""Of a callback they are uncertain: no answer came from the phone. Asked for after the prompt's life they end it."""

PROMPT: Final[Mapping[str, Code]] = {
    **_codes(Meaning.PAID, _0="paid"),
    **_codes(
        Meaning.REFUSED,
        _1="insufficient_funds",
        _2="below_minimum",
        _3="above_maximum",
        _4="daily_limit",
        _8="balance_limit_of_ours",
        _1001="phone_busy",
        _1032="cancelled_by_payer",
        _2001="wrong_pin",
        _2028="not_assigned",
        _8006="pin_locked",
        SFC_IC0003="no_operator",
    ),
    **_codes(
        Meaning.UNCERTAIN,
        _17="repeated_within_two_minutes",
        _26="busy",
        _1019="expired",
        _1025="not_pushed",
        _1037="not_reached",
        _9999="not_pushed",
    ),
}
PAYOUT: Final[Mapping[str, Code]] = {
    **_codes(Meaning.PAID, _0="paid"),
    **_codes(
        Meaning.REFUSED,
        _2="below_minimum",
        _3="above_maximum",
        _4="daily_limit",
        _8="balance_limit",
        _2040="not_registered",
        SFC_IC0003="unknown_number",
    ),
    **_codes(
        Meaning.OURS,
        _1="insufficient_float",
        _11="account_inactive",
        _21="initiator_not_allowed",
        _2001="initiator_credentials",
        _2006="account_inactive",
        _2028="not_assigned",
        _8006="initiator_locked",
        TP40153="initiator_not_permitted",
    ),
    **_codes(Meaning.DUPLICATE, _15="duplicate"),
    **_codes(Meaning.UNCERTAIN, _17="internal_failure", _26="busy"),
}
REVERSED_BEFORE: Final = "R000001"
REVERSAL: Final[Mapping[str, Code]] = {
    **{code: known for code, known in PAYOUT.items() if known.meaning is Meaning.OURS},
    **_codes(Meaning.PAID, _0="reversed"),
    REVERSED_BEFORE: Code(meaning=Meaning.PAID, reason="reversed_before"),
    **_codes(Meaning.REFUSED, R000002="unknown_receipt"),
}
STATUSES: Final[Mapping[str, Code]] = {
    **_codes(Meaning.PAID, completed="paid"),
    **_codes(Meaning.OURS, cancelled="cancelled", declined="declined", expired="expired", failed="failed"),
    **_codes(Meaning.UNCERTAIN, initiated="initiated", authorized="authorized"),
}
"""The state of a transaction in the answer to a status query, in small letters.

A payout that failed has the same state for every reason, and only a text beside it, which decides nothing. So it is
never the member's failure: it may be ours, and waits for a person and another attempt, whose result has a code.
"""
TOKEN_ERRORS: Final = frozenset({"404.001.03", "401.002.01", "400.003.01", "401.003.01", "401.001.01"})
"""They say that a token is not valid, by product. One is answered with HTTP 404, which is no "not found" here."""
PENDING, INTERNAL, SPIKE, QUOTA = "500.001.1001", "500.002.1001", "500.003.02", "500.003.03"
NOT_BEGUN: Final[Mapping[str, Code]] = _codes(Meaning.OURS) | {
    "400.002.02": Code(meaning=Meaning.OURS, reason="invalid_request"),
    "404.001.01": Code(meaning=Meaning.OURS, reason="wrong_path"),
    "405.001": Code(meaning=Meaning.OURS, reason="wrong_method"),
    "400.008.01": Code(meaning=Meaning.OURS, reason="credentials"),
    "400.008.02": Code(meaning=Meaning.OURS, reason="credentials"),
    **{code: Code(meaning=Meaning.OURS, reason="token") for code in TOKEN_ERRORS},
}
"""Errors of a request that was not begun."""


def of_prompt(code: str, *, is_asked: bool = False) -> Code:
    """Return what a prompt's code means. ``is_asked``: it answers a query after the prompt's life."""
    known = PROMPT.get(code, UNKNOWN)
    if is_asked and code in NOT_REACHED:
        return Code(meaning=Meaning.REFUSED, reason=known.reason)
    return known


def of_error(code: str, text: str) -> Code:
    """Return what an error of a request means. One of Daraja's codes has four meanings by its text."""
    lowered = text.lower()
    if code == PENDING:
        if "lock" in lowered:
            return Code(meaning=Meaning.REFUSED, reason="phone_busy")
        if "process" in lowered:
            return Code(meaning=Meaning.UNCERTAIN, reason="in_process")
        if "credential" in lowered or "merchant" in lowered:
            return Code(meaning=Meaning.OURS, reason="credentials")
        return UNKNOWN
    if code == INTERNAL and "duplicate" in lowered:
        return Code(meaning=Meaning.DUPLICATE, reason="duplicate")
    return NOT_BEGUN.get(code, UNKNOWN)
