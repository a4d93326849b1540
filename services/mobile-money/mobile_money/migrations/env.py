"""Alembic's entry for mobile-money."""

from chassis.postgres import migrations
from mobile_money.schema import metadata

migrations.run(metadata)
