"""``python -m stack.provision databases|topics|schemas``: one step of a deployment, in a container of its own.

What is done is in ``databases`` and ``deploy``; here it is told where. A step that runs again changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from chassis.wire.kafka import KafkaLogin
from pydantic_settings import BaseSettings, SettingsConfigDict

from stack import access, contract, databases, deploy, kafka
from stack.errors import StackError
from stack.settings import PARTITIONS_DEFAULT

CONNECT_TIMEOUT_S = 5
USAGE = "Usage: python -m stack.provision databases|topics|schemas\n"


class Place(BaseSettings):
    """Where the components are. ``secrets`` is a folder with a file for each login, its password inside."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_", frozen=True)

    postgres: str = "postgres:5432"
    kafka: str = "kafka:9092"
    registry_url: str = "http://registry:8080/apis/ccompat/v7"
    secrets: Path = Path("/run/secrets")
    partitions: int = PARTITIONS_DEFAULT


def make_databases(place: Place) -> None:
    """Create every service's database, its logins and their grants."""
    host, _, port = place.postgres.partition(":")

    def password(login: str) -> str:
        return (place.secrets / login).read_text().strip()

    def connect(database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=host, port=port or "5432", user="postgres", password=password("postgres"), dbname=database,
            connect_timeout=CONNECT_TIMEOUT_S, autocommit=True, application_name="provision",
        )  # fmt: skip

    databases.create(connect, password, contract.database_rights())


def make_topics(place: Place) -> None:
    """Create the topics that are missing; let every login in, to do what the contract says and nothing else."""
    folder = place.secrets
    login = KafkaLogin(
        address=place.kafka, user=contract.DEPLOY, password_file=folder / kafka.secret_of(contract.DEPLOY)
    )
    rights = contract.kafka_rights()
    admin = kafka.admin(login)
    deploy.create_topics(admin, contract.topics(), place.partitions)
    access.admit(admin, {user: (folder / kafka.secret_of(user)).read_text().strip() for user in rights})
    access.grant(admin, rights)


def register_schemas(place: Place) -> None:
    """Register every message's schema."""
    deploy.register_schemas({"url": place.registry_url}, contract.subjects())


STEPS: Mapping[str, Callable[[Place], None]] = {
    "databases": make_databases,
    "topics": make_topics,
    "schemas": register_schemas,
}


def main() -> int:
    """Take one step; exit status 1 with a sentence when it cannot be taken, 2 on a wrong call."""
    step = STEPS.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if step is None:
        sys.stderr.write(USAGE)
        return 2
    try:
        step(Place())
    except (StackError, psycopg.OperationalError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
