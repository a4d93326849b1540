"""Alembic's entry for the provider's tables."""

from bench_providers import VERSION_TABLE
from bench_providers.mobile_money.tables import metadata
from chassis.postgres import migrations

migrations.run(metadata, VERSION_TABLE)
