"""Measures the end of a business day: balances by value date, and what was open."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

from ledger.model.accounts import AccountKind
from ledger.model.business_days import DayMeasurement, MeasureDay
from ledger.model.charts import SACCO
from ledger.model.days import end_of
from ledger.model.sacco_books import path
from ledger.store import reading

MICROSECOND: Final = timedelta(microseconds=1)
"""A day ends before the first instant of the next one."""

UNALLOCATED = text("""
    SELECT count(*) AS number, coalesce(sum(amount_minor), 0) AS total, min(completed_at) AS since
    FROM receipt_books
    WHERE short_code = :short_code AND currency = :currency AND state = 'UNALLOCATED' AND completed_at < :until
""")
IN_TRANSIT = text("""
    SELECT count(*) AS number, coalesce(sum(amount_minor), 0) AS total, min(held_at) AS since
    FROM (
        SELECT amount_minor, held_at FROM payout_books
        WHERE short_code = :short_code AND currency = :currency AND state = 'HELD' AND held_at < :until
        UNION ALL
        SELECT amount_minor, held_at FROM payout_books
        WHERE short_code = :short_code AND currency = :currency AND held_at < :until AND ended_at >= :until
    ) AS open
""")
"""A receipt is allocated at its own value date, so what is allocated by now was so at the day's end. A payout leaves
when it is paid or released."""


def measure(request: MeasureDay, tx: Connection) -> DayMeasurement:
    """Return what the ledger had at the end of a day, by value date."""
    until = end_of(request.day, SACCO.zone)
    values = {"short_code": request.short_code, "currency": request.currency, "until": until}
    unallocated = tx.execute(UNALLOCATED, values).one()
    in_transit = tx.execute(IN_TRANSIT, values).one()
    utility, working, charges = (
        _balance(code, request, until, tx) for code in ("utility", "working", "charges_payable")
    )
    return DayMeasurement(
        utility_minor=utility,
        working_minor=working,
        charges_minor=charges,
        unallocated_minor=int(unallocated.total),
        unallocated=unallocated.number,
        unallocated_since=unallocated.since,
        in_transit_minor=int(in_transit.total),
        in_transit=in_transit.number,
        in_transit_since=in_transit.since,
    )


def _balance(code: str, request: MeasureDay, until: datetime, tx: Connection) -> int:
    """Return a balance on the account's own side before an instant; 0 for an account that was never used."""
    row = reading.find_account(path(code, request.currency, request.short_code), tx)
    if row is None:
        return 0
    totals = reading.balance_effective(row.id, until - MICROSECOND, tx)
    return AccountKind(row.kind).sign * (totals.debits - totals.credits)
