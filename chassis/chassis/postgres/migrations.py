"""Alembic for a service's package, whose ``migrations/env.py`` calls :func:`run`."""

from __future__ import annotations

import importlib
from pathlib import Path

from alembic import command, context
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData

NEWEST = "head"
VERSION_TABLE = "alembic_version"


def config_of(package: str) -> Config:
    """Return alembic's configuration for ``<package>/migrations``. Raises ValueError where there is no such folder."""
    module = importlib.import_module(package)
    folder = Path(str(module.__file__)).parent / "migrations"
    if not folder.is_dir():
        raise ValueError(f"{package} has no migrations: {folder} does not exist. Check the name of the package.")
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def newest(package: str) -> str:
    """Return the package's latest revision. Raises ValueError where it has none."""
    revision = ScriptDirectory.from_config(config_of(package)).get_current_head()
    if revision is None:
        raise ValueError(f"{package} has no revision. Check the name of the package.")
    return revision


def upgrade(package: str, engine: Engine, revision: str = NEWEST) -> None:
    """Bring the database to a revision of the package, in one transaction."""
    config = config_of(package)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def run(metadata: MetaData, version_table: str = VERSION_TABLE) -> None:
    """Run the pending revisions; a package's ``env.py`` calls only this.

    A package that adds tables to another's database has a ``version_table`` of its own.
    """
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=metadata, version_table=version_table)
    with context.begin_transaction():
        context.run_migrations()


def differences(metadata: MetaData, connection: Connection, version_table: str = VERSION_TABLE) -> list[str]:
    """Return the differences between the database and the tables in code, one line each; empty where there are none."""
    migration = MigrationContext.configure(connection, opts={"version_table": version_table})
    return [repr(difference) for difference in compare_metadata(migration, metadata)]
