"""Alembic's entry for ledger."""

from ledger.tables import metadata

from messaging import migrations

migrations.run(metadata)
