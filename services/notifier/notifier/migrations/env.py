"""Alembic's entry for notifier."""

from chassis.postgres import migrations
from notifier.tables import metadata

migrations.run(metadata)
