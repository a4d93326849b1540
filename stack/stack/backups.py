"""Backup and restore of one service's database, while everything else keeps running.

1. :func:`dump` writes a copy. It records when it was begun, and contains everything that was committed before that.
2. :func:`inspect` refuses a copy that is not of this service and this schema, while the service still runs.
3. :func:`load` restores the database from a copy; the service must be stopped.
4. :func:`reconcile` adds what the service has published on Kafka since; then the service may start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from psycopg import sql

from chassis.postgres import migrations
from chassis.postgres.migrations import VERSION_TABLE
from stack import contract, postgres, services
from stack.environment import own_environment
from stack.errors import ComponentFailed, InvalidSettings
from stack.home import Home, State
from stack.ports import LOOPBACK

TIMEOUT_S = 3_600
TAIL_LINES = 15


def dump(home: Home, state: State, service: str, file: Path) -> None:
    """Write a copy of the service's database into ``file``. Raises InvalidSettings, ComponentFailed."""
    database = _database(service)
    if file.is_dir():
        raise InvalidSettings(f"{file} is a folder; name a file in it.")
    # A name of its own, readable by its owner only: a backup holds personal data.
    descriptor, name = tempfile.mkstemp(prefix=".backup-", dir=file.parent.absolute())
    os.close(descriptor)
    draft = Path(name)
    try:
        _program(home, state, "pg_dump", "--format=custom", f"--file={draft}", database)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What a backup contains: the database that it was taken from, its schema's revision, and when it was begun."""

    database: str
    revision: str
    taken_at: datetime


def inspect(home: Home, state: State, service: str, file: Path) -> Archive:
    """Return what the backup in ``file`` contains, once it is known to be one that this service can run on.

    Raises InvalidSettings, before anything is changed: for another service's, for one of another schema, and for a
    file that is no whole backup.
    """
    database = _database(service)
    if not file.is_file():
        raise InvalidSettings(f"{file} is not a file; give one that 'baraza backup' wrote.")
    path = str(file.absolute())
    try:
        listed = _program(home, state, "pg_restore", "--list", path)
        versions = _program(home, state, "pg_restore", "--data-only", f"--table={VERSION_TABLE}", "--file=-", path)
        # All of it: the list is at the begin of a file that was cut off.
        _program(home, state, "pg_restore", f"--file={os.devnull}", path)
    except ComponentFailed as error:
        raise InvalidSettings(
            f"{file} is no whole backup that 'baraza backup' wrote; nothing was changed. {error}"
        ) from error
    archive = archive_of(file, listed, versions)
    if archive.database != database:
        raise InvalidSettings(f"{file} is a backup of {archive.database}, not of {database}; nothing was changed.")
    if archive.revision != (newest := migrations.newest(database)):
        raise InvalidSettings(
            f"{file} has the schema's revision {archive.revision}, this release has {newest}; nothing was changed. "
            "Restore it with the release that wrote it, then run './baraza up' of this one."
        )
    return archive


def archive_of(file: Path, listed: str, versions: str) -> Archive:
    """Return an archive from pg_restore's list of it and from the rows of its version table. Raises InvalidSettings."""
    created = re.search(r"^; Archive created at (\S+ \S+) UTC$", listed, re.MULTILINE)
    database = re.search(r"^; +dbname: (.+)$", listed, re.MULTILINE)
    revision = re.search(r"^COPY \S+ \(version_num\) FROM stdin;\n(\S+)\n\\\.$", versions, re.MULTILINE)
    if created is None or database is None or revision is None:
        raise InvalidSettings(
            f"{file} does not contain its time, its database and its revision; give a file that 'baraza backup' wrote."
        )
    return Archive(
        database=database[1],
        revision=revision[1],
        taken_at=datetime.fromisoformat(created[1]).replace(tzinfo=UTC),
    )


def load(home: Home, state: State, service: str, file: Path) -> None:
    """Replace the service's tables with those in ``file``, in one transaction.

    Raises InvalidSettings, ComponentFailed.
    """
    database = _database(service)
    _program(
        home, state, "pg_restore", "--clean", "--if-exists", "--single-transaction", "--exit-on-error",
        f"--dbname={database}", str(file.absolute()),
    )  # fmt: skip


def reconcile(home: Home, state: State, service: str, since: datetime) -> str:
    """Run ``chassis.process.reconcile`` as the service and return its output. Raises ComponentFailed with that output.

    The tracker's offsets are in its database, so it reads on from there: :mod:`saga_tracker.rebuild` does that.
    """
    _database(service)
    if service == contract.TRACKER:
        return rebuild(home, state)
    if service == contract.CONSOLE:
        return f"{service} publishes nothing, so nothing is missing from Kafka.\n"
    command = (sys.executable, "-P", "-m", "chassis.process.reconcile", contract.package_of(service), since.isoformat())
    return _run(command, services.environment(home, state, service, service))


def rebuild(home: Home, state: State) -> str:
    """Run ``saga_tracker.rebuild`` as the tracker and return its output. Raises ComponentFailed with that output."""
    command = (sys.executable, "-P", "-m", "saga_tracker.rebuild")
    return _run(command, services.environment(home, state, contract.TRACKER, contract.TRACKER))


def empty(home: Home, state: State, service: str) -> None:
    """Delete every row of a service's tables, in one transaction; the service must be stopped."""
    password = home.password(postgres.SUPERUSER)
    with postgres.connect(state.ports[postgres.NAME], password, _database(service)) as inside, inside.transaction():
        rows = inside.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        tables = [sql.Identifier(name) for (name,) in rows if name != VERSION_TABLE]
        inside.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(tables)))


def reread(home: Home, state: State, topics: Sequence[str]) -> str:
    """Run ``saga_tracker.reread`` as the tracker and return its output. Raises ComponentFailed with that output."""
    command = (sys.executable, "-P", "-m", "saga_tracker.reread", *topics)
    return _run(command, services.environment(home, state, contract.TRACKER, contract.TRACKER))


def _database(service: str) -> str:
    if service not in (known := (*contract.services(), contract.TRACKER, contract.CONSOLE)):
        raise InvalidSettings(f"No service {service!r} has a database; known: {', '.join(known)}.")
    return services.database_of(service)


def _program(home: Home, state: State, name: str, *arguments: str) -> str:
    connection = {
        "PGHOST": LOOPBACK, "PGPORT": str(state.ports[postgres.NAME]), "PGUSER": postgres.SUPERUSER,
        "PGPASSWORD": home.password(postgres.SUPERUSER), "TZ": "UTC",
    }  # fmt: skip
    return _run((str(postgres.binary(name)), *arguments), connection)


def _run(command: tuple[str, ...], environment: dict[str, str]) -> str:
    program = Path(command[0]).name
    try:
        done = subprocess.run(
            command, env=own_environment() | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd="/",
            stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ComponentFailed(f"{program} took more than {TIMEOUT_S} s and was ended.") from error
    if done.returncode:
        tail = "\n".join(done.stdout.rstrip().splitlines()[-TAIL_LINES:])
        raise ComponentFailed(f"{program} ended with {done.returncode}:\n{tail}")
    return done.stdout
