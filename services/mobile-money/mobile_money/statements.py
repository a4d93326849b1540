"""The provider's statement as a file: read by the names of its columns, put into order, and checked for gaps. Pure."""

from __future__ import annotations

import csv
import enum
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Final

from mobile_money import readings

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "receipt": ("receipt no", "receipt"),
    "completed_at": ("completion time", "date"),
    "details": ("details",),
    "status": ("transaction status", "status"),
    "paid_in": ("paid in",),
    "withdrawn": ("withdrawn",),
    "balance": ("balance",),
    "reason": ("reason type", "transaction type"),
    "party": ("other party info",),
    "linked": ("linked transaction id",),
    "reference": ("a/c no",),
}
NEEDED: Final = ("receipt", "completed_at", "status", "paid_in", "withdrawn", "balance")
COMPLETED: Final = "completed"
PREAMBLE_LINES_MAX: Final = 50
ROWS_MAX: Final = 2_000_000
PERIOD: Final = re.compile(r"From (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) To (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
OPENING: Final = re.compile(r"(?i)opening balance:?\s*(-?[\d,]+\.?\d*)")
TYPED: Final = re.compile(r"(?i)\b(?:from|to|by|acc|account|a/c|for)\b|[-:.]")
MASKED: Final = re.compile(r"\d(?=\d{3})")


class RowKind(enum.StrEnum):
    """What a row of a statement is."""

    IN = "IN"
    OUT = "OUT"
    CHARGE = "CHARGE"
    REVERSAL = "REVERSAL"
    TRANSFER = "TRANSFER"


class InvalidStatement(ValueError):
    """A statement that cannot be read. The text names the line and what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One completed row. ``amount_minor`` is negative where it went out; ``position`` counts from the oldest."""

    receipt: str
    completed_at: datetime
    amount_minor: int
    balance_minor: int
    kind: RowKind
    status: str
    details: str
    position: int
    party: str | None = None
    reference: str | None = None
    linked: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What distinguishes it in its account: a charge has the receipt of its payment."""
        return self.receipt, self.kind.value

    @property
    def phone(self) -> str | None:
        """The other party's phone; None where it is masked."""
        try:
            return readings.phone_of((self.party or "").partition("-")[0])
        except ValueError:
            return None

    @property
    def shown_party(self) -> str | None:
        """The other party with all but the last three digits masked."""
        return None if self.party is None else MASKED.sub("*", self.party)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """The completed rows of a file, the oldest first, and the places between them that do not add up.

    ``begins_at``, ``ends_at`` and ``opening_minor`` are what lines before the header say, if they do.
    """

    rows: tuple[Row, ...]
    gaps: int
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    opening_minor: int | None = None

    @property
    def closing_minor(self) -> int | None:
        """The balance at its end; None where neither a row nor a line before the header has it."""
        return self.rows[-1].balance_minor if self.rows else self.opening_minor


def parse(content: str) -> Parsed:
    """Return the completed rows of a statement, each once, and its gaps. Raises InvalidStatement."""
    lines = csv.reader(io.StringIO(content.lstrip("\ufeff")))
    columns, preamble = _header(lines)
    found: list[Row] = []
    seen: set[tuple[object, ...]] = set()
    for number, cells in enumerate(lines):
        if number > ROWS_MAX:
            raise InvalidStatement(f"The file has more than {ROWS_MAX} rows; import it in parts.")
        row = _row(columns, cells, number)
        if row is None:
            continue
        same = (row.receipt, row.kind, row.amount_minor, row.balance_minor)
        if same not in seen:  # an export that lists a row twice
            seen.add(same)
            found.append(row)
    ordered = _oldest_first(found)
    begins_at, ends_at = _period(preamble)
    opening = OPENING.search(preamble)
    opening_minor = None if opening is None else _cents(opening[1].strip())
    return Parsed(
        rows=ordered,
        gaps=gaps_of(ordered, opening_minor),
        begins_at=begins_at,
        ends_at=ends_at,
        opening_minor=opening_minor,
    )


def _period(preamble: str) -> tuple[datetime | None, datetime | None]:
    """Return the time that a statement says it covers; its last second belongs to it."""
    found = PERIOD.search(preamble)
    if found is None:
        return None, None
    return readings.time_of(found[1]), readings.time_of(found[2]) + timedelta(seconds=1)


def gaps_of(rows: Sequence[Row], before_minor: int | None = None) -> int:
    """Return at how many rows the balance is not that of the row before and its amount."""
    gaps, balance = 0, before_minor
    for row in rows:
        if balance is not None and balance + row.amount_minor != row.balance_minor:
            gaps += 1
        balance = row.balance_minor
    return gaps


def _header(lines: Iterator[list[str]]) -> tuple[dict[str, int], str]:
    """Return where each column is, and the lines before the header."""
    preamble: list[str] = []
    for number, cells in enumerate(lines):
        names = [cell.strip().lower().rstrip(".") for cell in cells]
        columns = {
            column: next(names.index(alias) for alias in aliases if alias in names)
            for column, aliases in COLUMNS.items()
            if any(alias in names for alias in aliases)
        }
        if all(name in columns for name in NEEDED):
            return columns, "\n".join(preamble)
        preamble.append(" ".join(cell.strip() for cell in cells))
        if number > PREAMBLE_LINES_MAX:
            break
    raise InvalidStatement(f"There is no header with the columns {', '.join(NEEDED)}; export the statement as CSV.")


def _row(columns: Mapping[str, int], cells: Sequence[str], number: int) -> Row | None:
    """Return a row; None for an empty one, and for one that is not completed."""

    def cell(name: str) -> str:
        index = columns.get(name)
        return cells[index].strip() if index is not None and index < len(cells) else ""

    if not cell("receipt") or cell("status").lower() != COMPLETED:
        return None
    try:
        paid_in, withdrawn = _cents(cell("paid_in")), abs(_cents(cell("withdrawn")))
        amount = paid_in - withdrawn
        return Row(
            receipt=readings.receipt_of(cell("receipt")),
            completed_at=readings.time_of(cell("completed_at")),
            amount_minor=amount,
            balance_minor=_cents(cell("balance")),
            kind=_kind(amount, cell("reason"), cell("details")),
            status=cell("status"),
            details=cell("details"),
            position=number,
            party=cell("party") or None,
            reference=cell("reference") or None,
            linked=cell("linked") or None,
        )
    except ValueError as error:
        raise InvalidStatement(f"Row {number + 1} after the header: {error}.") from error


def _kind(amount: int, reason: str, details: str) -> RowKind:
    """Return what a row is, by its reason type. Without one, by how its details begin, before names and references.

    What follows there was typed by a payer, who may call a payment a reversal.
    """
    words = (reason or TYPED.split(details, maxsplit=1)[0]).lower()
    if "reversal" in words:
        return RowKind.REVERSAL
    if "transfer" in words or "settlement" in words or "deposit of funds" in words:
        return RowKind.TRANSFER
    if "charge" in words:
        return RowKind.CHARGE
    return RowKind.IN if amount >= 0 else RowKind.OUT


def _cents(text: str) -> int:
    if not text or text == "-":
        return 0
    try:
        cents = Decimal(text.replace(",", "")) * readings.MINOR
    except InvalidOperation as error:
        raise ValueError(f"{text!r} is no amount") from error
    if not cents.is_finite() or cents != cents.to_integral_value():
        raise ValueError(f"{text!r} has a fraction of a cent")
    return int(cents)


def _oldest_first(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows in the order of time; the file's own order decides within a second, whichever way it runs."""
    is_newest_first = len(rows) > 1 and rows[0].completed_at > rows[-1].completed_at
    if len(rows) > 1 and rows[0].completed_at == rows[-1].completed_at:
        is_newest_first = gaps_of(rows) > gaps_of(rows[::-1])
    ordered = list(rows[::-1] if is_newest_first else rows)
    ordered.sort(key=lambda row: row.completed_at)
    return tuple(_at(row, position) for position, row in enumerate(ordered))


def _at(row: Row, position: int) -> Row:
    return replace(row, position=position)
