"""Alembic's entry for the console."""

from chassis.postgres import migrations
from console.tables import metadata

migrations.run(metadata)
