"""Alembic's entry for members."""

from chassis.postgres import migrations
from members.tables import metadata

migrations.run(metadata)
