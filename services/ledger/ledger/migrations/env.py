"""Alembic's entry for ledger."""

from chassis.postgres import migrations
from ledger.tables import metadata

migrations.run(metadata)
