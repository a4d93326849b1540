"""A stack that was not started from here: compose's or a cluster's. A file lists its endpoints.

It can be queried and audited, but neither started nor stopped.
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
from stack.lifecycle import Endpoints
from stack.services import ISSUER, database_of

VARIABLE = "BARAZA_PLACES"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteStack:
    """The endpoints, and ``host:port`` by database, with ``*`` for databases that are not listed.

    ``secrets`` is a folder with the passwords: PostgreSQL's login ``audit`` in a file of that name, Kafka's in
    ``kafka-audit`` and ``kafka-operator``.
    """

    endpoints: Endpoints
    databases: Mapping[str, str]
    secrets: Path

    @classmethod
    def read(cls, file: Path) -> RemoteStack:
        """Return the stack that the file describes. Raises InvalidSettings."""
        try:
            listed = json.loads(file.read_text())
            return cls(endpoints=_endpoints(listed), databases=listed["databases"], secrets=Path(listed["secrets"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidSettings(
                f"{VARIABLE} names {file}, which does not list every endpoint ({error!r}); "
                "compare it with compose/endpoints.json."
            ) from error

    def kafka(self, user: str) -> KafkaLogin:
        """Return the Kafka login of a user; its password must be in the folder."""
        file = self.secrets / secret_of(user)
        return KafkaLogin(address=self.endpoints.kafka, user=user, password_file=file)

    def database_url(self, service: str, role: str = AUDIT) -> str:
        """Return the address of a service's database, password included. Raises ValueError for another role."""
        if role != AUDIT:
            raise ValueError(f"Only the role {AUDIT} has a database login for a remote stack, not {role!r}.")
        database = database_of(service.replace("_", "-"))
        server = self.databases.get(database) or self.databases["*"]
        password = quote((self.secrets / AUDIT).read_text().strip())
        return f"postgresql://{AUDIT}:{password}@{server}/{database}"


def _endpoints(listed: Mapping[str, Any]) -> Endpoints:
    host, _, port = listed["databases"]["*"].partition(":")
    return Endpoints(
        kafka=listed["kafka"],
        registry_url=listed["registry_url"],
        postgres_host=host,
        postgres_port=int(port or "5432"),
        redis_url=listed["redis_url"],
        jwks_url=f"{listed['http'][ISSUER][0]}/.well-known/jwks.json",
        http={name: tuple(urls) for name, urls in listed["http"].items()},
    )
