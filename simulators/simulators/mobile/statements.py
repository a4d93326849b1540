"""The statement of an account of a short code for a day, as the portal exports it: CSV, with a running balance.

The columns, the preamble and the order of an export vary; faults of the operation ``statement`` choose. Damage is what
is wrong on purpose in rows: the books behind them stay right.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date

from simulators.mobile.books import PAY_IN, PAY_OUT, REVERSAL, account
from simulators.mobile.faults import Fault, Kind, first
from simulators.mobile.records import Damage, Entry, MobileRecords
from simulators.mobile.times import dashed, ends, starts

NEWER = (
    "Receipt No.", "Completion Time", "Initiation Time", "Details", "Transaction Status", "Paid In", "Withdrawn",
    "Balance", "Balance Confirmed", "Reason Type", "Other Party Info", "Linked Transaction ID", "A/C No.",
)  # fmt: skip
OLDER = (
    "Receipt", "Date", "Details", "Status", "Withdrawn", "Paid In", "Balance", "Balance Confirmed", "Transaction Type",
    "Other Party Info", "Transaction Party Details",
)  # fmt: skip
COMPLETED = "Completed"
REASONS = {
    PAY_IN: "Pay Bill", PAY_OUT: "Business Payment to Customer via API", REVERSAL: "Reversal of Pay Bill",
    "transfer": "Organization Settlement Between Accounts", "float": "Deposit of Funds", "charge": "Charge",
}  # fmt: skip
ROW_LOST, ROW_DOUBLED, AMOUNT_CHANGED, ROW_INVENTED = DAMAGES = (
    "row_lost", "row_doubled", "amount_changed", "row_invented",
)  # fmt: skip
INVENTED_MINOR = 10_000
"""KES 100 that no customer paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. ``status`` is Completed for what changed the balance."""

    entry: Entry
    status: str = COMPLETED


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """The rows of an account's day, the oldest first, and the balance before them."""

    short_code: str
    account: str
    day: date
    opening_minor: int
    rows: tuple[Row, ...]


def read(records: MobileRecords, short_code: str, name: str, day: date) -> Statement:
    """Return a statement with damage; its running balance agrees with what it shows."""
    owner, since, until = account(short_code, name), starts(day), ends(day)
    damage = records.damage(owner)
    opening = records.balance_before(owner, since) + sum(each.delta_minor for each in damage if each.at < since)
    by_seq: dict[int, list[Damage]] = {}
    for each in damage:
        by_seq.setdefault(each.seq, []).append(each)
    found, running = [], opening
    for entry in records.entries(owner, since, until):
        for shown in _damaged(entry, by_seq.get(entry.seq, ())):
            running += shown.amount_minor
            found.append(Row(entry=replace(shown, balance_minor=running)))
    return Statement(short_code=short_code, account=name, day=day, opening_minor=opening, rows=tuple(found))


def _damaged(entry: Entry, damage: Iterable[Damage]) -> list[Entry]:
    """Return the rows in place of an entry."""
    shown = [entry]
    for each in damage:
        match each.kind:
            case "row_lost":
                shown = shown[1:]
            case "amount_changed":
                shown[0] = replace(shown[0], amount_minor=shown[0].amount_minor + each.delta_minor)
            case "row_doubled":
                shown.append(entry)
            case _:
                shown.append(replace(entry, receipt=each.receipt, kind=PAY_IN, amount_minor=each.delta_minor))
    return shown


def plant(records: MobileRecords, kind: str, entry: Entry, receipt: str) -> Damage:
    """Damage the row of an entry, or invent one after it, and return the damage. It runs inside a transaction.

    A changed amount is off by one cent, away from zero.
    """
    sign = 1 if entry.amount_minor > 0 else -1
    deltas = {ROW_LOST: -entry.amount_minor, ROW_DOUBLED: entry.amount_minor, AMOUNT_CHANGED: sign}
    delta = deltas.get(kind, INVENTED_MINOR)
    damaged = replace(entry, receipt=receipt) if kind == ROW_INVENTED else entry
    number = records.add_damage(kind, damaged, delta)
    return next(each for each in records.damage(entry.account) if each.id == number)


def export(statement: Statement, faults: Sequence[Fault], failed: Sequence[Row] = ()) -> str:
    """Return a statement as CSV: the newest row first, unless a fault changes that."""
    found = list(statement.rows)
    if first(faults, Kind.GAP) is not None and found:
        del found[len(found) // 2]
    if first(faults, Kind.ALL_STATES) is not None:
        found = _merged(found, failed, statement.opening_minor)
    if first(faults, Kind.DOUBLE) is not None:
        found = [row for row in found for _ in range(2)]
    if first(faults, Kind.OLDEST_FIRST) is None:
        found.reverse()
    columns: tuple[str, ...] = OLDER if first(faults, Kind.OLDER) else NEWER
    if first(faults, Kind.SHUFFLED) is not None:
        columns = tuple(sorted(columns))
    text = io.StringIO()
    if first(faults, Kind.NO_PREAMBLE) is None:
        text.write(_preamble(statement))
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    is_plain = first(faults, Kind.PLAIN) is not None
    writer.writerows(_cells(row, is_plain=is_plain) for row in found)
    return text.getvalue()


def _merged(found: Iterable[Row], failed: Iterable[Row], opening_minor: int) -> list[Row]:
    """Return all rows by time; one that failed has the balance of the row before it."""
    merged, balance = [], opening_minor
    for row in sorted([*found, *failed], key=lambda row: row.entry.at):
        balance = row.entry.balance_minor if row.status == COMPLETED else balance
        merged.append(replace(row, entry=replace(row.entry, balance_minor=balance)))
    return merged


def _preamble(statement: Statement) -> str:
    lines = (
        ("Account Holder:", "BARAZA SACCO"),
        ("Short Code:", statement.short_code),
        ("Account:", f"{statement.account.capitalize()} Account"),
        ("Time Period:", f"From {statement.day} 00:00:00 To {statement.day} 23:59:59"),
        ("Opening Balance:", money(statement.opening_minor)),
    )
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([*lines, ()])
    return text.getvalue()


def _cells(row: Row, *, is_plain: bool) -> dict[str, str]:
    entry, details = row.entry, row.entry.details
    written = plain if is_plain else money
    amount, at = entry.amount_minor, dashed(entry.at)
    paid_in = written(amount) if amount > 0 else ""
    withdrawn = written(-amount if is_plain else amount) if amount < 0 else ""
    party, reason = str(details.get("party", "")), REASONS.get(entry.kind, entry.kind)
    own = f"{reason} {details.get('about', '')}".strip()
    begun = details.get("begun_at", entry.at)
    shared = {
        "Details": own, "Paid In": paid_in, "Withdrawn": withdrawn, "Balance": written(entry.balance_minor),
        "Balance Confirmed": "True", "Other Party Info": party,
    }  # fmt: skip
    newer = {
        "Receipt No.": entry.receipt, "Completion Time": at, "Transaction Status": row.status, "Reason Type": reason,
        "Initiation Time": dashed(float(str(begun))), "Linked Transaction ID": str(details.get("linked", "")),
        "A/C No.": str(details.get("reference", "")),
    }  # fmt: skip
    older = {
        "Receipt": entry.receipt, "Date": at, "Status": row.status, "Transaction Type": reason,
        "Transaction Party Details": party,
    }  # fmt: skip
    return {**shared, **newer, **older}


def money(amount_minor: int) -> str:
    """Return an amount with separators of thousands and two decimals."""
    sign = "-" if amount_minor < 0 else ""
    whole, cents = divmod(abs(amount_minor), 100)
    return f"{sign}{whole:,}.{cents:02d}"


def plain(amount_minor: int) -> str:
    """Return an amount without separators."""
    return money(amount_minor).replace(",", "")
