"""Alembic's entry for shipping."""

from shipping.tables import metadata

from messaging import migrations

migrations.run(metadata)
