"""Alembic's entry for ledger."""

from chassis.postgres import migrations
from ledger.store.schema import metadata

migrations.run(metadata)
