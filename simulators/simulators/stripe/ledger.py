"""Stripe's own books: balance transactions, payouts, and its report of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

from simulators import books
from simulators.accounts import Account
from simulators.books import PER_MILLION, Batch, Bookkeeping, Line, decimal
from simulators.face import Call, chosen
from simulators.faults import FaultSubject
from simulators.gateway_records import GatewayRecords
from simulators.hooks import Event, tell
from simulators.records import Record
from simulators.stripe.currencies import exponent

FEE_PER_MILLION, FEE_FIXED = 29_000, 30
"""2.9 percent and 30 cents of a charge."""
DISPUTE_FEE = 1_500
RADAR_UNITS = 5
"""What screening costs for each charge, in one line a batch."""
COLUMNS = (
    "balance_transaction_id", "created", "created_utc", "available_on", "currency", "gross", "fee", "net",
    "reporting_category", "source_id", "description", "customer_facing_amount", "customer_facing_currency",
    "automatic_payout_id", "automatic_payout_effective_at", "charge_id", "payment_intent_id", "charge_created",
    "payment_method_type", "card_brand", "card_funding", "card_country", "statement_descriptor", "dispute_reason",
    "payment_metadata[payment_id]",
)  # fmt: skip


def charge(call: Call, intent: Record, charged: Record) -> None:
    """Book a capture. Below the authorization it takes two lines: the whole, and a reversal of the rest."""
    authorized, captured = charged.amount("amount"), charged.amount("amount_captured")
    line = _line(call.account, intent, "charge", charged.id, authorized, call.now)
    settled = BOOKS.settled(captured, line.currency, line.settled_currency)
    fee = settled * FEE_PER_MILLION // PER_MILLION + FEE_FIXED
    books.write(call.records, call.account.name, _with_fee(line, fee), is_principal=True)
    if captured < authorized:
        rest = _line(call.account, intent, "partial_capture_reversal", charged.id, captured - authorized, call.now)
        books.write(call.records, call.account.name, rest, is_principal=False)


def refund(records: GatewayRecords, account: Account, intent: Record, refunded: Record, now: float) -> None:
    """Book a refund. The fee of the charge is not given back."""
    line = _line(account, intent, "refund", refunded.id, -refunded.amount("amount"), now)
    books.write(records, account.name, line, is_principal=True)


def correct(
    records: GatewayRecords, account: Account, intent: Record, category: str, source: str, units: int, now: float
) -> None:
    """Book what takes another line back, or a dispute."""
    line = _line(account, intent, category, source, units, now)
    if category == "dispute":
        line = _with_fee(line, DISPUTE_FEE)
    books.write(records, account.name, line, is_principal=category == "dispute")


def maybe(call: Call, kind: str, record: Record) -> None:
    """Let something happen later where a fault of that name says so."""
    subject = FaultSubject(
        operation=kind, reference=record.reference, token=record.text("payment_method"), key=record.id
    )
    if (fault := chosen(call.records, subject, call.seed)) is not None:
        details = {} if fault.code is None else {"reason": fault.code}
        call.records.schedule(kind, record.id, call.now + fault.wait_s, **details)


def _line(account: Account, intent: Record, category: str, source: str, units: int, now: float) -> Line:
    currency = intent.text("currency")
    return Line(
        id=f"txn_{uuid4().hex[:24]}", category=category, payment=intent.id, reference=intent.reference, source=source,
        source_reference="", currency=currency, units=units, settled_currency=account.settlement_currency,
        gross=BOOKS.settled(units, currency, account.settlement_currency), fee=0, at=now, method="visa",
    )  # fmt: skip


def _with_fee(line: Line, fee: int) -> Line:
    return replace(line, fee=fee)


def _extras(account: Account, number: int, lines: Sequence[Line], now: float) -> Sequence[Line]:
    """Return the line of what screening costs, and the payout."""
    charges = sum(line.category == "charge" for line in lines)
    cost = _own(account, number, "fee", -RADAR_UNITS * charges, now)
    paid = sum(line.net for line in lines) + cost.net
    return [cost, _own(account, number, "payout", -paid, now)] if paid > 0 else [cost]


def _own(account: Account, number: int, category: str, units: int, now: float) -> Line:
    source = payout_id(account.name, number) if category == "payout" else f"fee_{uuid4().hex[:24]}"
    return Line(
        id=f"txn_{uuid4().hex[:24]}", category=category, payment="", reference="", source=source, source_reference="",
        currency=account.settlement_currency, units=units, settled_currency=account.settlement_currency, gross=units,
        fee=0, at=now, method="",
    )  # fmt: skip


def payout_id(account: str, number: int) -> str:
    """Return the id of the payout for a batch."""
    return f"po_{sha256(f'{account}|{number}'.encode()).hexdigest()[:24]}"


def _report(batch: Batch) -> tuple[str, str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(batch, line) for line in batch.lines)
    day = datetime.fromtimestamp(batch.closed_at, UTC).date()
    return f"payout_reconciliation.itemized.5-{day}-{batch.number:05d}.csv", text.getvalue()


def _row(batch: Batch, line: Line) -> dict[str, str]:
    at, closed = _utc(line.at), _utc(batch.closed_at)
    settled = exponent(line.settled_currency)
    row = {
        "balance_transaction_id": line.id, "created": at, "created_utc": at, "available_on": closed,
        "currency": line.settled_currency.lower(), "gross": decimal(line.gross, settled),
        "fee": decimal(line.fee, settled), "net": decimal(line.net, settled), "reporting_category": line.category,
        "source_id": line.source, "automatic_payout_id": payout_id(batch.account.name, batch.number),
        "automatic_payout_effective_at": closed,
    }  # fmt: skip
    if not line.payment:
        return row
    return row | {
        "customer_facing_amount": decimal(line.units, exponent(line.currency)),
        "customer_facing_currency": line.currency.lower(),
        "charge_id": line.source if line.source.startswith("ch_") else "",
        "payment_intent_id": line.payment,
        "payment_method_type": "card", "card_brand": line.method, "card_funding": "credit", "card_country": "US",
        "payment_metadata[payment_id]": line.reference,
    }  # fmt: skip


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _closed(records: GatewayRecords, batch: Batch, name: str, now: float) -> None:
    """Tell the account that its payout is paid and reconciled."""
    payout = {
        "id": payout_id(batch.account.name, batch.number), "object": "payout", "status": "paid", "automatic": True,
        "currency": batch.account.settlement_currency.lower(), "livemode": batch.account.is_live,
        "reconciliation_status": "completed", "metadata": {},
        "amount": -sum(line.net for line in batch.lines if line.category == "payout"),
    }  # fmt: skip
    for kind in ("payout.paid", "payout.reconciliation_completed"):
        body = {"id": f"evt_{uuid4().hex[:24]}", "object": "event", "created": int(now), "type": kind,
                "livemode": batch.account.is_live, "data": {"object": payout}}  # fmt: skip
        told = Event(account=batch.account.name, name=kind, reference=name, object_id=str(payout["id"]), body=body)
        tell(records, told, now=now, seed=0)


BOOKS = Bookkeeping(exponent=exponent, principal="charge", extras=_extras, report=_report, closed=_closed)
