"""Performs one run: match, compare with what was known, publish what diverges, and store the result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from sqlalchemy import Connection

from chassis.http.gateway_accounts import GatewayAccount
from chassis.wire.codec import Codec
from reconciliation.model.calendar import DAY, Calendar
from reconciliation.model.findings import CHANGED, CLOSED, OPENED, Judged, identity_of, judge
from reconciliation.model.kinds import RunKind
from reconciliation.outgoing import publish_divergences
from reconciliation.store import divergences, matching, runs
from reconciliation.store.matching import DueTimes, Scope
from reconciliation.store.runs import Run

OVERLAP: Final = timedelta(minutes=10)
"""A transaction that recorded something just before the last run may have committed behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a run is to look at, and as if it were which time: a later one takes nothing for pending any more."""

    kind: RunKind
    day: date | None = None
    as_of: datetime | None = None
    requested_by: str | None = None


def reconcile(
    account: GatewayAccount, wanted: Wanted, calendar: Calendar, tx: Connection, codec: Codec, *, now: datetime
) -> Run:
    """Perform a run and return its result.

    1. The lines of its scope are matched, in one statement.
    2. Divergences are compared with those known: some are new, some changed, some are gone.
    3. Those that are open are published, once for this run, and the result is stored for good.
    """
    number = runs.begin(tx)
    as_of = max(now, wanted.as_of or now)
    scope = _scope(account, wanted, tx)
    # 1.
    due = _due(account, calendar, as_of, tx)
    grace_s = calendar.grace.total_seconds()
    matching.match(account.name, number, scope, due, tx, as_of=as_of, grace_s=grace_s)
    # 2.
    findings = runs.findings(number, tx)
    ids = [identity_of(account.name, each) for each in findings]
    known = divergences.known(account.name, number, ids, tx, is_all=scope.is_all)
    judged = judge(account.name, number, findings, known, now=now)
    divergences.save(number, judged.divergences, judged.changes, tx)
    tx.execute(matching.UNSCOPE, {"run": number})
    # 3.
    publish_divergences(number, judged.open, tx, codec, now=now)
    run, counts = _result(number, account, wanted, as_of, judged, tx, now)
    runs.finish(run, counts, tx)
    return run


def _result(
    number: int, account: GatewayAccount, wanted: Wanted, as_of: datetime, judged: Judged, tx: Connection, now: datetime
) -> tuple[Run, dict[str, int]]:
    counts = runs.counts(number, tx)
    run = Run(
        run=number,
        account=account.name,
        kind=wanted.kind,
        day=wanted.day,
        as_of=as_of,
        began_at=now,
        finished_at=now,
        requested_by=wanted.requested_by,
        line_count=sum(counts.values()),
        open_count=len(judged.open),
        opened=judged.count(OPENED),
        closed=judged.count(CLOSED),
        changed=judged.count(CHANGED),
    )
    return run, counts


def _scope(account: GatewayAccount, wanted: Wanted, tx: Connection) -> Scope:
    if wanted.day is not None:
        begin = datetime.combine(wanted.day, time(tzinfo=UTC))
        return Scope(day=(begin, begin + DAY))
    if wanted.kind is RunKind.MANUAL:
        return Scope()
    progress = tx.execute(runs.PROGRESS_OF, {"account": account.name}).one_or_none()
    return Scope(since=None if progress is None or progress.run_at is None else progress.run_at - OVERLAP)


def _due(account: GatewayAccount, calendar: Calendar, as_of: datetime, tx: Connection) -> DueTimes:
    first = matching.first_day(account.name, tx)
    count = 0 if first is None else (as_of.date() - first).days + 2
    days = [first + DAY * index for index in range(count)] if first is not None else []
    gateway, currency = account.gateway, account.settlement_currency
    return DueTimes(
        days=days,
        missing=[calendar.missing_at(day, gateway, currency) for day in days],
        late=[calendar.late_at(day, gateway, currency) for day in days],
    )
