"""Alembic's entry for inventory."""

from chassis.postgres import migrations
from inventory.tables import metadata

migrations.run(metadata)
