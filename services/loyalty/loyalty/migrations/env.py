"""Alembic's entry for loyalty."""

from loyalty.tables import metadata

from messaging import migrations

migrations.run(metadata)
