"""The ledger process."""

from __future__ import annotations

from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.service import Dependencies, Service
from chassis.telemetry.table_gauges import measure, overdue
from ledger import api, tables
from ledger.handlers import HANDLERS
from ledger.outgoing import DAYS, EVENTS
from ledger.tasks import tasks
from messages.ledger import DayClosed, ManualPostingApproved

IMBALANCE = measure(
    "baraza_ledger_imbalance_minor",
    "The difference between debits and credits, over all charts; anything but 0 is an accounting error.",
    ("currency",),
    tables.IMBALANCE,
    # The query reads every account.
    age_max_s=60,
)
OVERDUE = overdue(tables.OVERDUE)


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    return Service(
        handlers=HANDLERS,
        app=api.application(dependencies),
        measures=(IMBALANCE, OVERDUE),
        tasks=tasks(dependencies.codec, utc_now),
        also_publishes={DAYS: (DayClosed,), EVENTS: (ManualPostingApproved,)},
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
