"""What reconciliation does without a message: it fetches feeds, reconciles, reports settlements, and fills the lake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import Connection

from chassis.http.gateway_accounts import GatewayAccount, GatewayAccounts
from chassis.postgres.long_transactions import unhurried
from chassis.process.background import Task
from chassis.wire.codec import Codec
from reconciliation import entries
from reconciliation.deliveries import FeedUnavailable, deliver
from reconciliation.lake import Lake
from reconciliation.model.calendar import DAY, Calendar
from reconciliation.model.kinds import RunKind
from reconciliation.outgoing import publish_settlements
from reconciliation.reconciling import Wanted, reconcile
from reconciliation.store import matching, runs
from reconciliation.store.runs import Run

REQUESTED_EVERY_S, DUE_EVERY_S, LAKE_EVERY_S = 1.0, 60.0, 60.0
HOURLY: Final = timedelta(hours=1)
LOCKS: Final = 0x7265636F_00020000

Clock = Callable[[], datetime]
log = structlog.get_logger()


class Reconciliation:
    """The accounts with a feed, and what is done for them."""

    def __init__(
        self, accounts: Callable[[], GatewayAccounts], lake: Lake, calendar: Calendar, codec: Codec, clock: Clock
    ) -> None:
        """``accounts`` reads the gateway accounts anew each time: their file may change while the process runs."""
        self._accounts = accounts
        self._lake = lake
        self._calendar = calendar
        self._codec = codec
        self._clock = clock

    def tasks(self) -> tuple[Task, ...]:
        """Return the tasks of the process."""
        return (
            Task(name="requested runs", run=self.run_requested, every_s=REQUESTED_EVERY_S, lock=LOCKS),
            Task(name="due runs", run=self.run_due, every_s=DUE_EVERY_S, lock=LOCKS),
            Task(name="fill the lake", run=self.fill_lake, every_s=LAKE_EVERY_S, lock=LOCKS + 1),
        )

    def run_requested(self, tx: Connection) -> bool:
        """Perform the oldest run that a person has requested, and return whether there was one."""
        request = tx.execute(runs.REQUESTED).one_or_none()
        if request is None:
            return False
        wanted = Wanted(kind=RunKind.MANUAL, day=request.day, as_of=request.as_of, requested_by=request.requested_by)
        run, failure = None, None
        try:
            account = self._accounts().account(request.account)
            if account.feed is None:
                raise FeedUnavailable(f"Account {account.name} has no feed; the gateway accounts' file names it.")
            run = self.perform(account, wanted, tx).run
        except (LookupError, FeedUnavailable) as error:
            failure = str(error)
        tx.execute(runs.ANSWER, {"request_id": request.request_id, "run": run, "failure": failure})
        return True

    def run_due(self, tx: Connection) -> bool:
        """Perform one run that is due, and return whether there was one: after a downtime there are several."""
        now = self._clock()
        accounts = self._with_feeds()
        tx.execute(runs.RETIRE, {"accounts": [account.name for account in accounts]})
        for account in accounts:
            tx.execute(runs.PROGRESS, {"account": account.name, "now": now})
            wanted = self._next(account, tx, now)
            if wanted is None:
                continue
            try:
                self.perform(account, wanted, tx)
            except FeedUnavailable as error:
                log.warning("A feed is unavailable; its run is late.", account=account.name, reason=str(error))
                continue
            return True
        return False

    def perform(self, account: GatewayAccount, wanted: Wanted, tx: Connection) -> Run:
        """Fetch what is new, reconcile, and report what was settled. Raises FeedUnavailable."""
        now = self._clock()
        with unhurried(tx):  # a feed may have millions of lines, and a gateway may be slow to send it
            tx.execute(runs.PROGRESS, {"account": account.name, "now": now})
            deliver(account, self._lake, tx, now=now)
            tx.execute(runs.FETCHED, {"account": account.name, "now": now})
            run = reconcile(account, wanted, self._calendar, tx, self._codec, now=now)
            if wanted.kind is RunKind.HOURLY:
                tx.execute(runs.ADVANCE, {"account": account.name, "now": now})
            publish_settlements(account, tx, self._codec, now=now)
        log.info("Reconciled.", run=run.run, account=account.name, kind=run.kind, lines=run.line_count,
                 opened=run.opened, closed=run.closed, changed=run.changed)  # fmt: skip
        return run

    def fill_lake(self, tx: Connection) -> bool:
        """Write the entries of one hour or day to the lake, and return whether there was one to write."""
        with unhurried(tx):
            return entries.write_next(self._lake, tx, now=self._clock())

    def _with_feeds(self) -> list[GatewayAccount]:
        return [account for account in self._accounts().accounts if account.feed is not None]

    def _next(self, account: GatewayAccount, tx: Connection, now: datetime) -> Wanted | None:
        """Return the next run of an account that is due: the hourly one first, then the days again in order."""
        progress = tx.execute(runs.PROGRESS_OF, {"account": account.name}).one()
        if progress.run_at is None or progress.run_at + HOURLY <= now:
            return Wanted(kind=RunKind.HOURLY)
        first, done = matching.first_day(account.name, tx), runs.done(account.name, tx)
        if first is None:
            return None
        due = [
            (due_at, day, kind)
            for day in (first + DAY * index for index in range((now.date() - first).days + 1))
            for kind, due_at in self._calendar.rechecks(day, account.settlement_currency)
            if due_at <= now and (kind.value, day) not in done
        ]
        if not due:
            return None
        _, day, kind = min(due)
        return Wanted(kind=kind, day=day)
