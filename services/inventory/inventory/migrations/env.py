"""Alembic's entry for inventory."""

from inventory.tables import metadata

from messaging import migrations

migrations.run(metadata)
