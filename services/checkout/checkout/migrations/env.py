"""Alembic's entry for checkout."""

from checkout.tables import metadata

from messaging import migrations

migrations.run(metadata)
