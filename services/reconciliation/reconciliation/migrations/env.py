"""Alembic's entry for reconciliation."""

from chassis.postgres import migrations
from reconciliation.tables import metadata

migrations.run(metadata)
