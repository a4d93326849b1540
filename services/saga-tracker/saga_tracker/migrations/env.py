"""Alembic's entry for the saga-tracker."""

from chassis.postgres import migrations
from saga_tracker.store.schema import METADATA

migrations.run(METADATA)
