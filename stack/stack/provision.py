"""``python -m stack.provision databases|topics|schemas``: one step of a deployment, in a container of its own.

``databases`` and ``deploy`` hold the steps; this module gives them the endpoints. Each step is idempotent.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.postgres.bounds import MIGRATING
from chassis.wire.kafka import KafkaLogin
from stack import contract, databases, deploy, kafka, kafka_access
from stack.errors import StackError
from stack.settings import PARTITIONS_DEFAULT

USAGE = "Usage: python -m stack.provision databases|topics|schemas\n"


class DeploymentEndpoints(BaseSettings):
    """The endpoints of the infrastructure. ``secrets`` is a folder with one password file for each login."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_", frozen=True)

    postgres: str = "postgres:5432"
    kafka: str = "kafka:9092"
    registry_url: str = "http://registry:8080/apis/ccompat/v7"
    secrets: Path = Path("/run/secrets")
    partitions: int = PARTITIONS_DEFAULT


def make_databases(endpoints: DeploymentEndpoints) -> None:
    """Create every service's database, its logins and their grants."""
    host, _, port = endpoints.postgres.partition(":")

    def password(login: str) -> str:
        return (endpoints.secrets / login).read_text().strip()

    def connect(database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=host, port=port or "5432", user="postgres", password=password("postgres"), dbname=database,
            autocommit=True, application_name="provision", **MIGRATING.arguments,
        )  # fmt: skip

    databases.create(connect, password, contract.database_rights())


def make_topics(endpoints: DeploymentEndpoints) -> None:
    """Create the missing topics and all users, each with exactly the contract's rights."""
    folder = endpoints.secrets
    login = KafkaLogin(
        address=endpoints.kafka, user=contract.DEPLOY, password_file=folder / kafka.secret_of(contract.DEPLOY)
    )
    rights = contract.kafka_rights()
    admin = kafka.admin(login)
    deploy.create_topics(admin, contract.topics(), endpoints.partitions)
    kafka_access.upsert_users(admin, {user: (folder / kafka.secret_of(user)).read_text().strip() for user in rights})
    kafka_access.set_acls(admin, rights)


def register_schemas(endpoints: DeploymentEndpoints) -> None:
    """Register every message's schema."""
    deploy.register_schemas({"url": endpoints.registry_url}, contract.subjects())


STEPS: Mapping[str, Callable[[DeploymentEndpoints], None]] = {
    "databases": make_databases,
    "topics": make_topics,
    "schemas": register_schemas,
}


def main() -> int:
    """Run one step. Exit status 1, with an error sentence, when it fails; 2 for wrong arguments."""
    step = STEPS.get(sys.argv[1]) if len(sys.argv) == 2 else None
    if step is None:
        sys.stderr.write(USAGE)
        return 2
    try:
        step(DeploymentEndpoints())
    except (StackError, psycopg.OperationalError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
