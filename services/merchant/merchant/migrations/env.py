"""Alembic's entry for merchant."""

from chassis.postgres import migrations
from merchant.tables import metadata

migrations.run(metadata)
