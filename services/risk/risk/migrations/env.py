"""Alembic's entry for risk."""

from chassis.postgres import migrations
from risk.tables import metadata

migrations.run(metadata)
