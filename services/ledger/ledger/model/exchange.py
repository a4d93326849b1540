"""Exchange between currencies, through an exchange account for each. The rate is kept with the transfer."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from ledger.model.transfers import Entry

PRECISION = 60
"""Digits of the product of an amount and a rate: more than both have together."""


def exchanged(amount_minor: int, rate: Decimal) -> int:
    """Return the amount in minor units of the other currency. ``rate`` is minor units for one minor unit."""
    with localcontext() as context:
        context.prec = PRECISION
        return int((amount_minor * rate).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))


def exchange(sold: Entry, *, target: str, currency: str, rate: Decimal, accounts: tuple[str, str]) -> tuple[Entry, ...]:
    """Return the four entries that take ``sold`` from one account and bring its equivalent to ``target``.

    ``accounts`` are the exchange accounts of both currencies. The target's side is the other one: where ``sold`` is a
    debit, as when a member's account pays, ``target`` is credited.
    """
    bought = exchanged(sold.amount_minor, rate)
    through, onward = accounts
    return (
        sold,
        Entry(through, -sold.amount_minor, sold.currency),
        Entry(onward, bought, currency),
        Entry(target, -bought, currency),
    )
