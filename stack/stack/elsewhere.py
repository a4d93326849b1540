"""A stack that was not started from here: compose's or a cluster's. A file says where its components answer.

It can be asked and audited, and neither started nor stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chassis.wire.kafka import KafkaLogin

from stack.contract import AUDIT
from stack.errors import InvalidSettings
from stack.kafka import secret_of
from stack.running import Endpoints
from stack.services import ISSUER, database_of

VARIABLE = "BARAZA_PLACES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Addresses, and where the databases are: ``host:port`` by database, under ``*`` for those that are not named.

    ``secrets`` is a folder with the passwords: PostgreSQL's login ``audit`` in a file of that name, Kafka's in
    ``kafka-audit`` and ``kafka-operator``.
    """

    endpoints: Endpoints
    databases: Mapping[str, str]
    secrets: Path

    @classmethod
    def read(cls, file: Path) -> Elsewhere:
        """Return what the file says. Raises InvalidSettings."""
        try:
            said = json.loads(file.read_text())
            return cls(endpoints=_endpoints(said), databases=said["databases"], secrets=Path(said["secrets"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidSettings(f"{VARIABLE} names {file}, which does not say all places ({error!r}).") from error

    def kafka(self, user: str) -> KafkaLogin:
        """Return how a user of Kafka logs in; its password must be in the folder."""
        file = self.secrets / secret_of(user)
        return KafkaLogin(address=self.endpoints.kafka, user=user, password_file=file)

    def database_url(self, service: str, role: str = AUDIT) -> str:
        """Return the address of a service's database, password included. Raises ValueError for another role."""
        if role != AUDIT:
            raise ValueError(f"From here only the role {AUDIT} reaches a database, not {role!r}.")
        database = database_of(service.replace("_", "-"))
        server = self.databases.get(database) or self.databases["*"]
        password = quote((self.secrets / AUDIT).read_text().strip())
        return f"postgresql://{AUDIT}:{password}@{server}/{database}"


def _endpoints(said: Mapping[str, Any]) -> Endpoints:
    host, _, port = said["databases"]["*"].partition(":")
    return Endpoints(
        kafka=said["kafka"],
        registry_url=said["registry_url"],
        postgres_host=host,
        postgres_port=int(port or "5432"),
        redis_url=said["redis_url"],
        jwks_url=f"{said['http'][ISSUER][0]}/.well-known/jwks.json",
        http={name: tuple(urls) for name, urls in said["http"].items()},
    )
