"""Alembic's entry for payment."""

from chassis.postgres import migrations
from payment.tables import metadata

migrations.run(metadata)
