"""The risk process."""

from __future__ import annotations

from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.background import Task
from chassis.process.service import Dependencies, Service
from risk import api, tables
from risk.handlers import handlers
from risk.rule_sets import SHIPPED, RuleSets

DELETE_EVERY_S = 5.0
LOCKS = 0x7269736B_00020000


def build(dependencies: Dependencies) -> Service:
    """Wire the service. Raises InvalidRules where the file of the rules is not valid."""
    rules = RuleSets(dependencies.settings.risk_rules_file or SHIPPED)
    deletion = Task(
        name="delete counters that are older than every window",
        run=lambda tx: tables.delete_counters(tx, now=utc_now()),
        every_s=DELETE_EVERY_S,
        lock=LOCKS,
    )
    return Service(handlers=handlers(rules), app=api.application(dependencies, rules), tasks=(deletion,))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
