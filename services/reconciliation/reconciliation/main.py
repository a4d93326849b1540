"""The reconciliation process."""

from __future__ import annotations

from functools import partial

from chassis.http import gateway_accounts
from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.background import Task
from chassis.process.service import Dependencies, Service
from chassis.telemetry.table_gauges import measure, overdue
from messages.reconciliation import DivergenceFound, SettlementReported
from reconciliation import api, tables
from reconciliation.handlers import HANDLERS
from reconciliation.lake import Lake
from reconciliation.model import calendar
from reconciliation.outgoing import DIVERGENCES, EVENTS
from reconciliation.tasks import Reconciliation

MEASURES = (
    measure(
        "baraza_reconciliation_divergences",
        "Open divergences between the ledger and the gateways' books, by kind.",
        ("kind",),
        tables.DIVERGENCES_OPEN,
    ),
    measure(
        "baraza_reconciliation_lag_seconds",
        "Since when the account that waits longest was not reconciled.",
        (),
        tables.LAG,
    ),
    measure(
        "baraza_reconciliation_feeds_refused",
        "Files of gateways' feeds that cannot be read and were not delivered again.",
        (),
        tables.FEEDS_REFUSED,
    ),
)
OVERDUE = overdue(tables.OVERDUE)


def build(dependencies: Dependencies) -> Service:
    """Wire the service. Raises InvalidGatewayAccounts."""
    return Service(
        handlers=HANDLERS,
        app=api.application(dependencies),
        measures=(*MEASURES, OVERDUE),
        tasks=_tasks(dependencies),
        also_publishes={DIVERGENCES: (DivergenceFound,), EVENTS: (SettlementReported,)},
    )


def _tasks(dependencies: Dependencies) -> tuple[Task, ...]:
    settings = dependencies.settings
    accounts = partial(gateway_accounts.read, settings.gateway_accounts_file)
    accounts()  # a flaw in the file ends the start, and names itself
    if not settings.lake_url:
        return ()
    lake = Lake(settings.lake_url)
    return Reconciliation(accounts, lake, calendar.load(), dependencies.codec, utc_now).tasks()


if __name__ == "__main__":
    raise SystemExit(service.run(build))
