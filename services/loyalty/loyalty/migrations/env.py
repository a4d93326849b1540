"""Alembic's entry for loyalty."""

from chassis.postgres import migrations
from loyalty.tables import metadata

migrations.run(metadata)
