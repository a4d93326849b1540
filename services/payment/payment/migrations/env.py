"""Alembic's entry for payment."""

from payment.tables import metadata

from messaging import migrations

migrations.run(metadata)
