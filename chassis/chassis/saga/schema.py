"""The tables that the chassis keeps in the database of every service with steps, as they are declared."""

from __future__ import annotations

from sqlalchemy import MetaData

from chassis.saga.deferred import deferred_table
from chassis.saga.effects import effects_table
from chassis.saga.outbox import outbox_table


def service_metadata() -> MetaData:
    """Return the tables effects, outbox and deferred; a service adds its own to them."""
    metadata = MetaData()
    for add_table in (effects_table, outbox_table, deferred_table):
        add_table(metadata)
    return metadata
