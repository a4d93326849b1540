"""Adyen's own books: settlement details by batch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

from simulators import books
from simulators.accounts import Account
from simulators.adyen.currencies import exponent
from simulators.adyen.notifications import notify
from simulators.books import PER_MILLION, RATES, Batch, Bookkeeping, Line, decimal
from simulators.face import Call, chosen
from simulators.faults import FaultSubject
from simulators.gateway_records import GatewayRecords
from simulators.records import Record

COMMISSION, MARKUP, SCHEME, INTERCHANGE = 11, 2_000, 1_300, 3_000
"""Eleven of the smallest unit, and three shares in millionths."""
CHARGEBACK_FEE = 750
COSTS = 1_000
"""What a batch costs."""
CREDIT, DEBIT = "Gross Credit (GC)", "Gross Debit (GC)"
COLUMNS = (
    "Company Account", "Merchant Account", "Psp Reference", "Merchant Reference", "Payment Method", "Creation Date",
    "TimeZone", "Type", "Modification Reference", "Gross Currency", DEBIT, CREDIT, "Exchange Rate", "Net Currency",
    "Net Debit (NC)", "Net Credit (NC)", "Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)",
    "Payment Method Variant", "Modification Merchant Reference", "Batch Number", "Reserved4", "Reserved5", "Reserved6",
    "Reserved7", "Reserved8", "Reserved9", "Reserved10",
)  # fmt: skip
OWN = ("MiscCosts", "MerchantPayout")
"""Lines of no payment."""


def book(
    records: GatewayRecords, account: Account, payment: Record, category: str, source: Record, units: int, now: float
) -> None:
    """Write a line of a payment. What is settled costs fees; so does a chargeback."""
    currency = payment.text("currency")
    gross = BOOKS.settled(units, currency, account.settlement_currency)
    fee = _fee(gross) if category == "Settled" else CHARGEBACK_FEE if category == "Chargeback" else 0
    line = Line(
        id=uuid4().hex[:24], category=category, payment=payment.id, reference=payment.reference, source=source.id,
        source_reference=source.text("own_reference"), currency=currency, units=units,
        settled_currency=account.settlement_currency, gross=gross, fee=fee, at=now, method="visa",
    )  # fmt: skip
    books.write(records, account.name, line, is_principal=category in ("Settled", "Refunded", "Chargeback"))


def maybe(call: Call, kind: str, record: Record) -> None:
    """Let something happen later where a fault of that name says so."""
    schedule_maybe(call.records, kind, record, record.text("token"), now=call.now, seed=call.seed)


def schedule_maybe(records: GatewayRecords, kind: str, record: Record, token: str, *, now: float, seed: int) -> None:
    """Let something happen later where a fault of that name says so."""
    subject = FaultSubject(operation=kind, reference=record.reference, token=token, key=record.id)
    if (fault := chosen(records, subject, seed)) is not None:
        details = {} if fault.code is None else {"reason": fault.code}
        records.schedule(kind, record.id, now + fault.wait_s, **details)


def _fee(gross: int) -> int:
    return COMMISSION + sum(gross * share // PER_MILLION for share in (MARKUP, SCHEME, INTERCHANGE))


def _extras(account: Account, number: int, lines: Sequence[Line], now: float) -> Sequence[Line]:
    """Return what the batch costs, and the payout, which has no Psp Reference."""
    costs = _own(account, "MiscCosts", -COSTS, now)
    paid = sum(line.net for line in lines) + costs.net
    return [costs, _own(account, "MerchantPayout", -paid, now)] if paid > 0 else [costs]


def _own(account: Account, category: str, units: int, now: float) -> Line:
    currency = account.settlement_currency
    return Line(
        id=uuid4().hex[:24], category=category, payment="", reference="", source="", source_reference="",
        currency=currency, units=units, settled_currency=currency, gross=units, fee=0, at=now, method="",
    )  # fmt: skip


def _report(batch: Batch) -> tuple[str, str]:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(batch, line) for line in batch.lines)
    return f"settlement_detail_report_batch_{batch.number:05d}.csv", text.getvalue()


def _row(batch: Batch, line: Line) -> dict[str, str]:
    account, decimals = batch.account, exponent(line.settled_currency)
    row = {
        "Company Account": "Baraza", "Merchant Account": account.merchant_account or "", "Type": line.category,
        "Creation Date": datetime.fromtimestamp(line.at, UTC).astimezone(ZoneInfo(account.time_zone)).strftime(
            "%Y-%m-%d %H:%M:%S"
        ),
        "TimeZone": account.time_zone, "Net Currency": line.settled_currency, "Batch Number": str(batch.number),
        "Net Credit (NC)" if line.net >= 0 else "Net Debit (NC)": decimal(abs(line.net), decimals),
    }  # fmt: skip
    if line.category in OWN:
        return row
    gross = decimal(abs(line.units), exponent(line.currency))
    return row | {
        "Psp Reference": line.payment, "Merchant Reference": line.reference, "Payment Method": line.method,
        "Modification Reference": line.source, "Gross Currency": line.currency,
        CREDIT if line.units >= 0 else DEBIT: gross, "Exchange Rate": _rate(line),
        "Payment Method Variant": line.method,
        "Modification Merchant Reference": line.source_reference, **_fees(line, decimals),
    }  # fmt: skip


def _fees(line: Line, decimals: int) -> dict[str, str]:
    """Return the parts of the fee; the commission has what rounding leaves, and what is planted."""
    if line.category != "Settled":
        return {"Commission (NC)": decimal(line.fee, decimals)} if line.fee else {}
    markup, scheme, interchange = (line.gross * share // PER_MILLION for share in (MARKUP, SCHEME, INTERCHANGE))
    parts = (line.fee - markup - scheme - interchange, markup, scheme, interchange)
    names = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")
    return {name: decimal(part, decimals) for name, part in zip(names, parts, strict=True)}


def _rate(line: Line) -> str:
    from_rate, into_rate = RATES.get(line.currency, PER_MILLION), RATES.get(line.settled_currency, PER_MILLION)
    return decimal(from_rate * PER_MILLION // into_rate, 6)


def _closed(records: GatewayRecords, batch: Batch, name: str, now: float) -> None:
    """Tell the account that its report is there."""
    report = Record(
        kind="report", id=name, reference=name, state="available",
        fields={"currency": batch.account.settlement_currency, "value": 0},
    )  # fmt: skip
    notify(records, batch.account, "REPORT_AVAILABLE", report, psp=name, original=None, now=now, seed=0)


BOOKS = Bookkeeping(exponent=exponent, principal="Settled", extras=_extras, report=_report, closed=_closed)
