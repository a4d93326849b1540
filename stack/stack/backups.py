"""Backup and restore of one service's database, while everything else keeps running.

1. :func:`dump` writes a copy. It records when it was begun, and contains everything that was committed before that.
2. :func:`load` restores the database from a copy; the service must be stopped.
3. :func:`reconcile` adds what the service has published on Kafka since; then the service may start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from stack import contract, postgres, services
from stack.errors import ComponentFailed, InvalidSettings
from stack.home import Home, State
from stack.ports import LOOPBACK

TIMEOUT_S = 3_600
TAIL_LINES = 15


def dump(home: Home, state: State, service: str, file: Path) -> None:
    """Write a copy of the service's database into ``file``. Raises InvalidSettings, ComponentFailed."""
    draft = file.with_name(f"{file.name}.new")
    _program(home, state, "pg_dump", "--format=custom", f"--file={draft}", _database(service))
    draft.replace(file)


def taken_at(home: Home, state: State, file: Path) -> datetime:
    """Return when the copy in ``file`` was begun. Raises ComponentFailed where the file is not a copy."""
    listed = _program(home, state, "pg_restore", "--list", str(file))
    created = re.search(r"^; Archive created at (\S+ \S+) UTC$", listed, re.MULTILINE)
    if created is None:
        raise ComponentFailed(
            f"{file} does not contain the time at which it was taken; give a file that 'baraza backup' wrote."
        )
    return datetime.fromisoformat(created[1]).replace(tzinfo=UTC)


def load(home: Home, state: State, service: str, file: Path) -> None:
    """Replace the service's tables with those in ``file``, in one transaction.

    Raises InvalidSettings, ComponentFailed.
    """
    database = _database(service)
    _program(
        home, state, "pg_restore", "--clean", "--if-exists", "--single-transaction", "--exit-on-error",
        f"--dbname={database}", str(file),
    )  # fmt: skip


def reconcile(home: Home, state: State, service: str, since: datetime) -> str:
    """Run ``chassis.process.reconcile`` as the service and return its output. Raises ComponentFailed with that output.

    The tracker needs none: its offsets are in its database, and its state is a function of the messages that it reads.
    """
    _database(service)
    if service == contract.TRACKER:
        return "The tracker continues from the offsets in its database.\n"
    command = (sys.executable, "-P", "-m", "chassis.process.reconcile", contract.package_of(service), since.isoformat())
    return _run(command, services.environment(home, state, service, service))


def _database(service: str) -> str:
    if service not in (known := (*contract.services(), contract.TRACKER)):
        raise InvalidSettings(f"No service {service!r} has a database; known: {', '.join(known)}.")
    return services.database_of(service)


def _program(home: Home, state: State, name: str, *arguments: str) -> str:
    connection = {
        "PGHOST": LOOPBACK, "PGPORT": str(state.ports[postgres.NAME]), "PGUSER": postgres.SUPERUSER,
        "PGPASSWORD": home.password(postgres.SUPERUSER), "TZ": "UTC",
    }  # fmt: skip
    return _run((str(postgres.binary(name)), *arguments), connection)


def _run(command: tuple[str, ...], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env={"PATH": os.defpath, **environment}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join(done.stdout.rstrip().splitlines()[-TAIL_LINES:])
        raise ComponentFailed(f"{Path(command[0]).name} ended with {done.returncode}:\n{tail}")
    return done.stdout
