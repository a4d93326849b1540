"""Receipts as callbacks bring them. Pure."""

from __future__ import annotations

from mobile_money.known import KnownPrompt, KnownRequest
from mobile_money.raw_callbacks import RawCallback
from mobile_money.receipts import Arrival, Door
from mobile_money.reports import End, Payment
from mobile_money.short_codes import ShortCode


def of_payment(
    callback: RawCallback,
    short_code: ShortCode,
    report: Payment,
    prompt: KnownPrompt | None,
    *,
    payer_hash: str | None,
    is_confirmed: bool,
) -> Arrival:
    """Return the receipt of a payment, with the prompt that it pays where that is known."""
    return Arrival(
        provider=short_code.provider,
        short_code=short_code.short_code,
        receipt=report.receipt,
        currency=short_code.currency,
        amount_minor=report.amount_minor,
        completed_at=report.completed_at,
        door=Door.CALLBACK if report.prompt_id is not None else Door.CONFIRMATION,
        source_id=callback.id,
        is_confirmed=is_confirmed,
        reference=report.reference or (None if prompt is None else prompt.reference),
        collection_id=None if prompt is None else prompt.saga_id,
        payer_hash=payer_hash,
        received_at=callback.received_at,
    )


def of_prompt(
    callback: RawCallback,
    short_code: ShortCode,
    report: End,
    request: KnownRequest,
    *,
    payer_hash: str | None,
    is_queried: bool,
) -> Arrival:
    """Return the receipt of a prompt that is known by our own id of it. What we have queried is confirmed."""
    assert report.receipt is not None, "a success without a receipt is refused"
    return Arrival(
        provider=short_code.provider,
        short_code=short_code.short_code,
        receipt=report.receipt,
        currency=short_code.currency,
        amount_minor=request.amount_minor,
        completed_at=report.completed_at or callback.received_at,
        door=Door.PULL if is_queried else Door.CALLBACK,
        source_id=callback.id,
        is_confirmed=is_queried or request.amount_minor < short_code.confirm_from_minor,
        reference=request.reference,
        collection_id=request.saga_id,
        payer_hash=payer_hash,
        received_at=callback.received_at,
    )
