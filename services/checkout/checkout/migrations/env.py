"""Alembic's entry for checkout."""

from chassis.postgres import migrations
from checkout.tables import metadata

migrations.run(metadata)
