"""``python -m chassis.postgres.migrate PACKAGE``: upgrade one service's database with the owner's login."""

from __future__ import annotations

import sys

from chassis.postgres import database, migrations
from chassis.postgres.bounds import MIGRATING
from chassis.settings import Settings


def main() -> int:
    """Upgrade without output; exit status 2 on wrong usage."""
    if len(sys.argv) != 2:
        sys.stderr.write("Usage: python -m chassis.postgres.migrate PACKAGE, for example inventory.\n")
        return 2
    settings = Settings()
    engine = database.create(
        settings.database_url, settings.database_password_file, application="migrate", bounds=MIGRATING
    )
    try:
        migrations.upgrade(sys.argv[1], engine)
    finally:
        engine.dispose()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
