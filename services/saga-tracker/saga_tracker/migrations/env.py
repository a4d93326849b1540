"""Alembic's entry for the saga-tracker."""

from saga_tracker.schema import METADATA

from messaging import migrations

migrations.run(METADATA)
