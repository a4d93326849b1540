"""Where finance closes business days: a report is made of the statements, and the person signs its hash."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine, text

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL, Day
from chassis.http.json_body import JsonRoute
from chassis.http.problem import Problem
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.envelope import derived_id, headers, new_traceparent
from messages.contract import name_of
from messages.mobile_money import DayCloseRequested
from mobile_money.days import canonical, sha256_of
from mobile_money.intake import Deciding
from mobile_money.money_api import Limit, Rows, Staff, responses_of
from mobile_money.receipts import EVENTS, SOURCE
from mobile_money.short_codes import ShortCode
from mobile_money.statement_api import bounds_of

Finance = Annotated[Principal, Depends(require("finance"))]

BALANCES = text("""
    SELECT DISTINCT ON (account) account, balance_minor FROM statement_rows
    WHERE short_code = :short_code AND completed_at < :ends_at
    ORDER BY account, completed_at DESC, position DESC
""")
CLOSING = text("""
    SELECT DISTINCT ON (account) account, last_balance_minor AS balance_minor FROM statement_files
    WHERE short_code = :short_code AND ends_at <= :ends_at AND last_balance_minor IS NOT NULL
    ORDER BY account, ends_at DESC
""")
COUNTS = text("""
    SELECT count(*) AS rows, count(*) FILTER (WHERE match = 'MATCHED') AS matched,
           count(*) FILTER (WHERE match = 'LISTED') AS listed
    FROM statement_rows
    WHERE short_code = :short_code AND completed_at >= :begins_at AND completed_at < :ends_at
""")
COVERED = text("""
    SELECT account, sum(gaps) AS gaps FROM statement_files
    WHERE short_code = :short_code AND begins_at <= :begins_at AND ends_at >= :ends_at
    GROUP BY account
""")
LISTED = text("""
    SELECT receipt, account, kind, completed_at, amount_minor, reason FROM statement_rows
    WHERE short_code = :short_code AND completed_at < :ends_at AND match = 'LISTED'
    ORDER BY completed_at, receipt, account, kind
    LIMIT 1000
""")
TIMING = text("""
    SELECT coalesce(sum(amount_minor), 0) FROM statement_rows
    WHERE short_code = :short_code AND completed_at < :ends_at AND match = 'LISTED' AND account = 'UTILITY'
""")
DOUBT = text("""
    SELECT count(*) AS in_doubt, coalesce(sum(amount_minor), 0) AS in_doubt_minor, min(requested_at) AS since
    FROM payouts WHERE short_code = :short_code AND state = 'REQUESTED' AND requested_at < :ends_at
""")
ORPHANS = text("""
    SELECT count(*) AS orphans, min(received_at) AS since FROM raw_callbacks
    WHERE name = :name AND fate = 'ORPHAN' AND received_at < :ends_at
""")
RUNS = text("""
    SELECT run, state FROM business_days
    WHERE provider = :provider AND short_code = :short_code AND day = :day ORDER BY run DESC LIMIT 1 FOR UPDATE
""")
ADD = text("""
    INSERT INTO business_days (provider, short_code, day, run, saga_id, state, report, report_sha256, signed_by,
                               requested_at)
    VALUES (:provider, :short_code, :day, :run, :saga_id, 'REQUESTED', :report, :report_sha256, :signed_by, :now)
""")
DAYS = text("""
    SELECT provider, short_code, day, run, saga_id, state, reason, difference_minor, report, report_sha256, signed_by,
           requested_at, decided_at
    FROM business_days ORDER BY day DESC, run DESC LIMIT :limit
""")


class Closing(BaseModel):
    """Which day is to be closed. ``report_sha256`` is the hash of the report that the person has read."""

    model_config = ConfigDict(extra="forbid")

    short_code: Annotated[str, CANONICAL, Field(pattern=r"^[0-9]{5,7}$")]
    day: Day
    report_sha256: Annotated[str, CANONICAL, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Report(BaseModel):
    """A day's report as it would be signed now."""

    report: dict[str, Any]
    report_sha256: str


class Requested(BaseModel):
    """The run of a day's close that was begun."""

    saga_id: str
    run: int
    report_sha256: str


def routes(engine: Engine, needed: Deciding, *, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["business days"])

    @router.get("/v1/days/{short_code}/{day}/report", responses=responses_of(404))
    def get_report(short_code: str, day: date, _staff: Staff) -> Report:
        """Return the report of a day as it is now, and the hash that a person signs."""
        code = _named(needed, short_code)
        with engine.connect() as tx:
            report = canonical(report_of(tx, code, day))
        return Report(report=report_from(report), report_sha256=sha256_of(report))

    @router.post("/v1/days", status_code=202, responses=responses_of(400, 404, 409, 413, 415))
    def close_day(closing: Closing, caller: Finance) -> Requested:
        """Ask to close a day. A day that stays open is run again, once its reason is gone."""
        code = _named(needed, closing.short_code)
        with engine.begin() as tx:
            return _request(tx, needed, code, closing, caller.subject, clock())

    @router.get("/v1/days", responses=responses_of())
    def list_days(_staff: Staff, limit: Limit = 200) -> Rows:
        """Return the runs of business days, the last day first."""
        with engine.connect() as tx:
            return Rows(rows=[dict(row) for row in tx.execute(DAYS, {"limit": limit}).mappings()])

    return router


def report_from(text_: str) -> dict[str, Any]:
    """Return a report in its one form as an object."""
    found: dict[str, Any] = json.loads(text_)
    return found


def report_of(tx: Connection, code: ShortCode, day: date) -> dict[str, Any]:
    """Return the numbers and lists of a day, as far as statements and our own rows say them."""
    begins_at, ends_at = bounds_of(day)
    values = {"short_code": code.short_code, "begins_at": begins_at, "ends_at": ends_at, "name": code.name}
    balances = {row.account: row.balance_minor for row in tx.execute(CLOSING, values)}
    balances |= {row.account: row.balance_minor for row in tx.execute(BALANCES, values)}
    covered = {row.account: int(row.gaps) for row in tx.execute(COVERED, values)}
    counts = tx.execute(COUNTS, values).one()
    doubt = tx.execute(DOUBT, values).one()
    orphans = tx.execute(ORPHANS, values).one()
    return {
        "provider": code.provider,
        "short_code": code.short_code,
        "day": day.isoformat(),
        "currency": code.currency,
        "accounts": sorted(covered),
        "utility_minor": balances.get("UTILITY"),
        "working_minor": balances.get("WORKING"),
        "charges_minor": None if balances.get("CHARGES") is None else abs(balances["CHARGES"]),
        "rows": counts.rows,
        "matched": counts.matched,
        "listed": counts.listed,
        "gaps": sum(covered.values()),
        "timing_minor": int(tx.execute(TIMING, values).scalar_one()),
        "listed_rows": [
            {**dict(row), "completed_at": row["completed_at"].isoformat()}
            for row in tx.execute(LISTED, values).mappings()
        ],
        "in_doubt": doubt.in_doubt,
        "in_doubt_minor": int(doubt.in_doubt_minor),
        "in_doubt_since": None if doubt.since is None else doubt.since.isoformat(),
        "orphans": orphans.orphans,
        "orphans_since": None if orphans.since is None else orphans.since.isoformat(),
    }


def _request(tx: Connection, needed: Deciding, code: ShortCode, closing: Closing, by: str, now: datetime) -> Requested:
    """Begin the next run of a day's close: one at a time, and none of a day that is closed."""
    key = {"provider": code.provider, "short_code": code.short_code, "day": closing.day.isoformat()}
    last = tx.execute(RUNS, key).one_or_none()
    if last is not None and last.state in ("REQUESTED", "CLOSED"):
        raise Problem(status=409, detail=f"The day {closing.day} is {last.state} by run {last.run}.")
    run = 1 if last is None else last.run + 1
    numbers = report_of(tx, code, closing.day)
    report = canonical(numbers)
    report_sha256 = sha256_of(report)
    if closing.report_sha256 not in (None, report_sha256):
        raise Problem(status=409, detail="The report has changed since it was read; read it again, then sign it.")
    saga_id = saga_id_of(code, closing.day, run)
    values = {"run": run, "saga_id": saga_id, "report": report, "report_sha256": report_sha256, "signed_by": by}
    tx.execute(ADD, {**key, **values, "now": now})
    event = _event(code, closing.day, run, numbers, report_sha256, by, now)
    row = OutboxRow(
        id=event.message_id,
        topic=EVENTS,
        saga_id=saga_id,
        type=name_of(type(event)),
        payload=needed.codec.encode(EVENTS, event),
        headers=headers(event, source=SOURCE, traceparent=new_traceparent()),
        partition=None,
    )
    outbox.save(tx, [row])
    return Requested(saga_id=saga_id, run=run, report_sha256=report_sha256)


def _event(
    code: ShortCode, day: date, run: int, numbers: dict[str, Any], report_sha256: str, by: str, now: datetime
) -> DayCloseRequested:
    """Return the event that starts a run of a day's close."""
    saga_id = saga_id_of(code, day, run)
    return DayCloseRequested(
        message_id=derived_id(saga_id, "requested"),
        saga_id=saga_id,
        saga_type="end_of_day",
        saga_version=1,
        causation_id=None,
        occurred_at=now,
        provider=code.provider,
        short_code=code.short_code,
        day=day.isoformat(),
        run=run,
        currency=code.currency,
        utility_minor=numbers["utility_minor"] or 0,
        working_minor=numbers["working_minor"] or 0,
        charges_minor=numbers["charges_minor"] or 0,
        rows=numbers["rows"],
        matched=numbers["matched"],
        gaps=numbers["gaps"],
        in_doubt=numbers["in_doubt"],
        orphans=numbers["orphans"],
        timing_minor=numbers["timing_minor"],
        report_sha256=report_sha256,
        signed_by=by,
    )


def saga_id_of(code: ShortCode, day: date, run: int) -> str:
    """Return the id of the saga of a run."""
    return derived_id("end of day", code.provider, code.short_code, day.isoformat(), run)


def _named(needed: Deciding, short_code: str) -> ShortCode:
    try:
        return needed.short_codes.named(short_code)
    except LookupError as error:
        raise Problem(status=404, detail=str(error)) from error
