"""Alembic's entry for the courier's tables."""

from bench_providers import VERSION_TABLE
from bench_providers.courier.tables import metadata
from chassis.postgres import migrations

migrations.run(metadata, VERSION_TABLE)
