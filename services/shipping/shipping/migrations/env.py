"""Alembic's entry for shipping."""

from chassis.postgres import migrations
from shipping.tables import metadata

migrations.run(metadata)
