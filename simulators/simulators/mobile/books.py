"""The provider's own books: wallets, the accounts of short codes, and what the provider earns. Double entry.

Amounts are minor units and positive for what an owner has. The outside is the bank that guards all money, so that all
balances add up to zero. A customer's wallet begins with an amount from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from simulators.mobile import phones, tariffs
from simulators.mobile.records import MobileRecords
from simulators.mobile.times import day_of, starts
from simulators.records import JsonObject

UTILITY, WORKING, CHARGES = ACCOUNTS = ("utility", "working", "charges")
OUTSIDE = "outside"
REVENUE = "revenue"
WALLET_MINOR = 10_000_000
"""What a wallet begins with: KES 100,000."""
WALLET_MINOR_MAX = 50_000_000
"""What a wallet may hold, and what it may receive in a day: KES 500,000."""
TRANSACTION_MAX = 250_000
"""Shillings of one transaction."""
PAY_IN, PAY_OUT, REVERSAL, TRANSFER, FLOAT, OPENING = "pay_in", "pay_out", "reversal", "transfer", "float", "opening"


class TooLittle(Exception):
    """An account has too little money."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Money from one account to another under one receipt. ``details`` are what statements show of it."""

    kind: str
    source: str
    target: str
    amount_minor: int
    details: JsonObject = field(default_factory=dict)


def account(short_code: str, name: str) -> str:
    """Return the account of a short code."""
    return f"{short_code}:{name}"


def wallet(records: MobileRecords, msisdn: str, now: float) -> str:
    """Return the account of a phone; a new one gets what a wallet begins with. It runs inside a transaction."""
    name = f"wallet:{msisdn}"
    if not records.has_account(name):
        given = phones.find(records, msisdn).wallet_minor
        amount = WALLET_MINOR if given is None else given
        records.enter(f"OPENING-{msisdn}", OPENING, now, {OUTSIDE: -amount, name: amount}, {})
    return name


def new_receipt(records: MobileRecords, now: float) -> str:
    """Return ten characters that no other transaction has, and that do not follow the order of transactions."""
    number = records.next_receipt(now) * STEP % SPAN
    digits = ""
    for _ in range(DIGITS):
        number, digit = divmod(number, len(ALPHABET))
        digits += ALPHABET[digit]
    return f"{ALPHABET[10 + day_of(now).year % 26]}{digits}"


ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = 9
SPAN = len(ALPHABET) ** DIGITS
STEP = 58_031_794_236_661
"""It has no factor in common with the span, so that no receipt comes twice."""


def enter(records: MobileRecords, transfer: Transfer, now: float, *, receipt: str | None = None) -> str:
    """Enter a transaction and its charge, and return the receipt. Raises TooLittle. It runs inside a transaction.

    Charges accrue below zero in an account of their own. Only the outside and the charges go below zero besides.
    """
    if records.balance(transfer.source) < transfer.amount_minor and transfer.source != OUTSIDE:
        raise TooLittle(transfer.source)
    number = receipt or new_receipt(records, now)
    amounts = {transfer.source: -transfer.amount_minor, transfer.target: transfer.amount_minor}
    details = dict.fromkeys(amounts, transfer.details)
    records.enter(number, transfer.kind, now, amounts, details)
    _charge(records, transfer, number, now)
    return number


def _charge(records: MobileRecords, transfer: Transfer, receipt: str, now: float) -> None:
    short_code = (transfer.source if transfer.kind == PAY_OUT else transfer.target).partition(":")[0]
    charge_minor = tariffs.charge_minor(records, transfer.kind, transfer.amount_minor, now)
    if charge_minor:
        charges = account(short_code, CHARGES)
        details = {**transfer.details, "charged": transfer.kind}
        records.enter(receipt, "charge", now, {charges: -charge_minor, REVENUE: charge_minor}, {charges: details})


def received_today(records: MobileRecords, name: str, now: float) -> int:
    """Return what a wallet was paid since midnight."""
    return records.received_since(name, PAY_OUT, starts(day_of(now)))
