"""The tables that the chassis keeps in the database of every service with steps, as they are declared."""

from __future__ import annotations

from sqlalchemy import MetaData

from chassis.saga.attempt_rows import attempts_table, awaited_steps_table
from chassis.saga.deferred import deferred_table
from chassis.saga.effects import effects_table
from chassis.saga.evidence import evidence_table
from chassis.saga.outbox import outbox_table


def service_metadata(*, has_awaited_steps: bool = False) -> MetaData:
    """Return the tables effects, outbox and deferred; a service adds its own to them.

    A service with steps whose outcome comes later has those of their attempts and of the evidence as well.
    """
    metadata = MetaData()
    for add_table in (effects_table, outbox_table, deferred_table):
        add_table(metadata)
    if has_awaited_steps:
        for add_table in (awaited_steps_table, attempts_table, evidence_table):
            add_table(metadata)
    return metadata
