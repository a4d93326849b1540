"""A connection with the rights of a database's owner, for what a benchmark writes there itself."""

from __future__ import annotations

import psycopg

from baraza.system.running import Running
from chassis.postgres.bounds import MIGRATING

OWNER = "owner"


def owner_connection(stack: Running, service: str) -> psycopg.Connection:
    """Connect to a service's database as its owner."""
    return psycopg.connect(stack.stack.database_url(service, OWNER), **MIGRATING.arguments)
