"""What MoMo's statuses and callbacks say. Pure. Everything raises ValueError for a body of another form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mobile_money import readings
from mobile_money.codes import Code, Meaning
from mobile_money.reports import Balances, End, Report

KIND, STATUS_KIND, BALANCE_KIND = "momo", "momo-status", "momo-balance"
QUERIED: Final = frozenset({STATUS_KIND, BALANCE_KIND})
"""What we have queried is kept as a callback is, each of a kind that no path has."""
OURS: Final = frozenset(
    {"NOT_ENOUGH_FUNDS", "NOT_ALLOWED", "NOT_ALLOWED_TARGET_ENVIRONMENT", "INVALID_CALLBACK_URL_HOST"}
)
"""Reasons of a failed transfer that are our fault. Of a payment NOT_ENOUGH_FUNDS is the payer's."""
SUCCESSFUL, FAILED = "SUCCESSFUL", "FAILED"


def read(kind: str, body: Any) -> Report:
    """Return what a callback of this kind, or an answer to a query, reports. Raises ValueError."""
    if not isinstance(body, dict):
        raise ValueError("It is no JSON object")
    return balances_of(body) if kind == BALANCE_KIND else end_of(body)


def balances_of(body: Mapping[str, Any]) -> Balances:
    """Return what an account has for payouts. MoMo has one such account, and takes its charges from it at once."""
    available = readings.balance_minor(body.get("availableBalance"))
    return Balances(question_id=None, utility_minor=available, working_minor=None, charges_minor=None, at=None)


def end_of(body: Mapping[str, Any], *, is_payment: bool | None = None) -> End:
    """Return what a status, or a callback, says. Raises ValueError for one of another form."""
    status = str(body.get("status", "")).strip().upper()
    reason = body.get("reason")
    value = str(reason.get("code", "")) if isinstance(reason, dict) else str(reason or "")
    own_id = body.get("externalId")
    is_paid_in = "payer" in body if is_payment is None else is_payment
    code = Code(meaning=Meaning.UNCERTAIN, reason="pending")
    receipt = amount = None
    if status == SUCCESSFUL:
        code = Code(meaning=Meaning.PAID, reason="paid")
        receipt = readings.receipt_of(body.get("financialTransactionId"))
        amount = readings.amount_minor(body.get("amount"))
    elif status == FAILED:
        meaning = Meaning.OURS if value in OURS and not is_paid_in else Meaning.REFUSED
        code = Code(meaning=meaning, reason=value.lower() or "failed")
    party = body.get("payer") if is_paid_in else body.get("payee")
    return End(
        code=code,
        value=value or status,
        text="",
        own_id=None if own_id is None else str(own_id),
        receipt=receipt,
        amount_minor=amount,
        phone=str(party["partyId"]) if isinstance(party, dict) and "partyId" in party else None,
    )
