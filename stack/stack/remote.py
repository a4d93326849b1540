"""A stack that was not started from here: compose's or a cluster's. A file lists its endpoints.

It can be queried and audited, but neither started nor stopped.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import quote

from pydantic import AfterValidator, AnyHttpUrl, BaseModel, TypeAdapter, ValidationError, model_validator

from chassis.wire.kafka import KafkaLogin
from stack.contract import AUDIT
from stack.errors import InvalidSettings
from stack.kafka import secret_of
from stack.lifecycle import Endpoints
from stack.providers import ISSUER
from stack.services import database_of, workers

VARIABLE = "BARAZA_PLACES"
EVERY_DATABASE = "*"
"""The address of every database that has no entry of its own."""
POSTGRES_PORT = "5432"


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
            listed = _Listed.model_validate_json(file.read_bytes().removeprefix(BOM_UTF8), strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise _not_endpoints(file, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except (OSError, ValueError) as error:
            raise _not_endpoints(file, str(error)) from error
        return cls(endpoints=_endpoints(listed), databases=listed.databases, secrets=Path(listed.secrets))

    def kafka(self, user: str) -> KafkaLogin:
        """Return the Kafka login of a user; its password must be in the folder."""
        file = self.secrets / secret_of(user)
        return KafkaLogin(address=self.endpoints.kafka, user=user, password_file=file)

    def database_url(self, service: str, role: str = AUDIT) -> str:
        """Return the address of a service's database, password included. Raises ValueError for another role."""
        if role != AUDIT:
            raise ValueError(f"Only the role {AUDIT} has a database login for a remote stack, not {role!r}.")
        database = database_of(service.replace("_", "-"))
        server = self.databases.get(database) or self.databases[EVERY_DATABASE]
        password = quote((self.secrets / AUDIT).read_text().strip())
        return f"postgresql://{AUDIT}:{password}@{server}/{database}"


def _address(text: str) -> str:
    TypeAdapter(AnyHttpUrl).validate_python(text)
    return text


Url = Annotated[str, AfterValidator(_address)]


class _Listed(BaseModel):
    """The file's content."""

    kafka: str
    registry_url: Url
    redis_url: str
    databases: dict[str, str]
    secrets: str
    http: dict[str, list[Url]]

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        missing = [name for name in (*workers(), ISSUER) if not self.http.get(name)]
        if missing:
            raise ValueError(f"http lacks {', '.join(missing)}")
        _, _, port = self.databases.get(EVERY_DATABASE, "").partition(":")
        if EVERY_DATABASE not in self.databases or not (port or POSTGRES_PORT).isdecimal():
            raise ValueError(f"databases lacks {EVERY_DATABASE!r}, an address such as postgres:5432")
        return self


def _not_endpoints(file: Path, why: str) -> InvalidSettings:
    return InvalidSettings(
        f"{VARIABLE} names {file}, which does not list every endpoint ({why}); compare it with compose/endpoints.json."
    )


def _endpoints(listed: _Listed) -> Endpoints:
    host, _, port = listed.databases[EVERY_DATABASE].partition(":")
    return Endpoints(
        kafka=listed.kafka,
        registry_url=listed.registry_url,
        postgres_host=host,
        postgres_port=int(port or POSTGRES_PORT),
        redis_url=listed.redis_url,
        jwks_url=f"{listed.http[ISSUER][0]}/.well-known/jwks.json",
        http={name: tuple(urls) for name, urls in listed.http.items()},
    )
