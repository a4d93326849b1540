"""A gateway's own books: lines by batch, payouts, reports as CSV, and divergences that a test plants in the reports.

The books are true: what is planted shows in reports alone. So a comparison has something to find, and a test
knows what it is. Amounts are whole numbers of the gateway's own smallest units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any

from simulators.accounts import Account
from simulators.gateway_records import GatewayRecords

CLOSE = "close_batch"
"""The happening that ends the day of an account."""
DAY_S = 86_400.0
PER_MILLION = 1_000_000
RATES: Mapping[str, int] = {
    "USD": 1_000_000, "EUR": 1_100_000, "GBP": 1_270_000, "JPY": 6_700, "KRW": 720, "KES": 7_700, "BHD": 2_650_000,
    "KWD": 3_250_000, "CLP": 1_050, "ISK": 7_200, "SEK": 95_000, "CHF": 1_130_000,
}  # fmt: skip
"""Millionths of a dollar for one of the major unit. They do not move."""


class Planted(StrEnum):
    """The kinds of divergences."""

    DROP = "drop"  # the lines of a capture are missing
    AMOUNT = "amount"  # a line has another amount
    CURRENCY = "currency"  # a line has another currency
    DUPLICATE = "duplicate"  # a line is there twice
    UNKNOWN = "unknown"  # a line of a payment that does not exist
    AGAIN = "again"  # the file is delivered again under another name, with the same bytes
    CHANGED = "changed"  # the file is delivered again under its name, with another fee in a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line. ``units`` is signed, in ``currency``; the rest is in the currency of the account's payouts.

    ``payment`` is the gateway's id of it, ``reference`` the caller's; ``source`` is the gateway's id of what moved.
    """

    id: str
    category: str
    payment: str
    reference: str
    source: str
    source_reference: str
    currency: str
    units: int
    settled_currency: str
    gross: int
    fee: int
    at: float
    method: str

    @property
    def net(self) -> int:
        """What the line adds to the payout."""
        return self.gross - self.fee


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A closed batch with its lines, and what was paid for it."""

    account: Account
    number: int
    lines: Sequence[Line]
    paid: int
    closed_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookkeeping:
    """In what gateways' books differ: exponents, costs of a batch, the report, and whom they tell of it.

    ``principal`` is the category of a capture. ``extras`` returns the lines that a closing batch gets besides.
    """

    exponent: Callable[[str], int]
    principal: str
    extras: Callable[[Account, int, Sequence[Line], float], Sequence[Line]]
    report: Callable[[Batch], tuple[str, str]]
    closed: Callable[[GatewayRecords, Batch, str, float], None]

    def settled(self, units: int, currency: str, into: str) -> int:
        """Return an amount in the currency of payouts, rounded to its smallest unit, half away from zero."""
        if currency == into:
            return units
        numerator = abs(units) * RATES.get(currency, PER_MILLION) * int(10 ** self.exponent(into))
        denominator = RATES.get(into, PER_MILLION) * int(10 ** self.exponent(currency))
        found = (2 * numerator + denominator) // (2 * denominator)
        return found if units >= 0 else -found


def write(records: GatewayRecords, account: str, line: Line, *, is_principal: bool) -> None:
    """Write a line into the open batch."""
    records.add_line(account, line.reference, asdict(line), is_principal=is_principal)


def close(records: GatewayRecords, account: Account, books: Bookkeeping, now: float) -> int | None:
    """Close the open batch, with its payout and its report; None where it has no line. Inside a transaction."""
    number = records.open_batch(account.name)
    if not (lines := _lines(records, account.name, number)):
        return None
    for extra in books.extras(account, number, lines, now):
        write(records, account.name, extra, is_principal=False)
    records.close_batch(account.name, number, now)
    batch = _batch(records, account, number)
    books.closed(records, batch, _publish(records, batch, books), now)
    return number


def plant(
    records: GatewayRecords, account: Account, books: Bookkeeping, kind: Planted, reference: str | None, seed: int
) -> dict[str, object] | None:
    """Plant a divergence, about a payment or one that the seed chooses; None where no payment is left for it.

    A batch that is closed is delivered again. It runs inside a transaction.
    """
    number = records.open_batch(account.name)
    known = {str(each["reference"]) for each in records.divergences(account.name)}
    batch, line = _chosen(records, account, books, reference, known, seed, number)
    if line is None:
        return None
    about = line.reference if kind is not Planted.UNKNOWN else _invented(account.name, len(known), seed)
    planted = records.add_divergence(account.name, batch, kind, about)
    if records.closed_at(account.name, batch) is not None:
        _publish(records, _batch(records, account, batch), books)
    return {"id": planted, "account": account.name, "batch": batch, "kind": kind.value, "reference": about}


def _chosen(
    records: GatewayRecords,
    account: Account,
    books: Bookkeeping,
    reference: str | None,
    known: set[str],
    seed: int,
    newest: int,
) -> tuple[int, Line | None]:
    """Return a capture that nothing is planted about, and its batch.

    The newest batch is looked at first, and in it payments of which it has one line alone.
    """
    for number in range(newest, 0, -1):
        lines = _lines(records, account.name, number)
        counts = Counter(line.reference for line in lines)
        found = [
            line
            for line in lines
            if line.category == books.principal and line.reference not in known and reference in (None, line.reference)
        ]
        if found:
            return number, min(found, key=lambda line: (counts[line.reference], _draw(seed, line.reference)))
    return newest, None


def _draw(seed: int, reference: str) -> bytes:
    return sha256(f"{seed}|{reference}".encode()).digest()


def _invented(account: str, count: int, seed: int) -> str:
    """Return a number that no payment has: far ahead of every clock."""
    digest = sha256(f"{seed}|{account}|{count}".encode()).digest()
    return str(8 * 10**18 + int.from_bytes(digest[:6]))


def _lines(records: GatewayRecords, account: str, number: int) -> list[Line]:
    return [_line(line) for _, _, line in records.lines(account, number)]


def _line(stored: Mapping[str, Any]) -> Line:
    return Line(**stored)


def _batch(records: GatewayRecords, account: Account, number: int) -> Batch:
    lines = _lines(records, account.name, number)
    closed_at = records.closed_at(account.name, number)
    assert closed_at is not None, "only a closed batch is reported"
    paid = sum(line.net for line in lines)
    return Batch(account=account, number=number, lines=lines, paid=paid, closed_at=closed_at)


def _publish(records: GatewayRecords, batch: Batch, books: Bookkeeping) -> str:
    """Store the report of a batch as it is shown, with what is planted, and return its name."""
    planted = [
        (Planted(str(each["kind"])), str(each["reference"]))
        for each in records.divergences(batch.account.name, batch.number)
    ]
    shown = replace(batch, lines=list(_shown(batch, planted, books)))
    name, text = books.report(shown)
    records.put_feed(batch.account.name, name, text)
    if any(kind is Planted.AGAIN for kind, _ in planted):
        records.put_feed(batch.account.name, name.replace(".csv", "-again.csv"), text)
    return name


def _shown(batch: Batch, planted: Sequence[tuple[Planted, str]], books: Bookkeeping) -> Iterator[Line]:
    kinds = {reference: kind for kind, reference in planted}
    captures = {line.source for line in batch.lines if line.category == books.principal}
    for line in batch.lines:
        kind = kinds.get(line.reference) if line.reference else None
        if kind is Planted.DROP and line.source in captures:
            continue
        if line.category != books.principal:
            yield line
            continue
        yield from _changed(line, kind, books)
    template = next(line for line in batch.lines if line.payment)
    for reference in (reference for kind, reference in planted if kind is Planted.UNKNOWN):
        digest = sha256(reference.encode()).hexdigest()
        yield replace(
            template,
            id=f"txn_{digest[:24]}",
            payment=digest[:16].upper(),
            source=digest[16:32].upper(),
            reference=reference,
            source_reference="",
            units=abs(template.units),
            gross=abs(template.gross),
            category=books.principal,
        )


def _changed(line: Line, kind: Planted | None, books: Bookkeeping) -> Iterator[Line]:
    other = {"EUR": "USD", "USD": "EUR"}.get(line.currency, "USD")
    match kind:
        case Planted.AMOUNT:
            units = line.units + 10 ** books.exponent(line.currency)
            gross = line.gross + books.settled(units - line.units, line.currency, line.settled_currency)
            yield replace(line, units=units, gross=gross)
        case Planted.CURRENCY:
            yield replace(line, currency=other)
        case Planted.DUPLICATE:
            yield line
            yield replace(line, id=f"{line.id}2", source=f"{line.source}2")
        case Planted.CHANGED:
            yield replace(line, fee=line.fee + 1)
        case _:
            yield line


def decimal(units: int, exponent: int) -> str:
    """Return an amount of smallest units as a decimal of major units, with its sign."""
    whole, rest = divmod(abs(units), int(10**exponent))
    sign = "-" if units < 0 else ""
    return f"{sign}{whole}.{rest:0{exponent}d}" if exponent else f"{sign}{whole}"
