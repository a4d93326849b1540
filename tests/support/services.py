"""Every service as its ``main`` builds it, without any connection."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from sqlalchemy import create_engine

from chassis.http.auth import Verifier
from chassis.http.issuers import Issuers
from chassis.process.service import Dependencies, Service
from chassis.saga.handlers import Handlers
from chassis.settings import Settings
from chassis.wire.codec import Codec
from proof.schemas import LocalRegistry
from stack import contract

NOWHERE = "127.0.0.1:1"


def dependencies(service: str, verifier: Verifier | Issuers | None = None) -> Dependencies:
    """Return the dependencies of a service: an address where nothing is, and the schemas of this release."""
    settings = Settings(
        service=service,
        kafka=NOWHERE,
        registry_url=f"http://{NOWHERE}",
        database_password_file=Path("/nowhere"),
        database_url=f"postgresql://{NOWHERE}/x",
        redis_url=f"redis://{NOWHERE}/0",
    )
    return Dependencies(
        settings=settings,
        engine=create_engine(f"postgresql+psycopg://{NOWHERE}/x"),
        codec=Codec(LocalRegistry()),
        verifier=verifier or Verifier(f"http://{NOWHERE}", "https://issuer.test", "baraza"),
    )


def built(service: str, verifier: Verifier | Issuers | None = None, *, package: str = "") -> Service:
    """Return what the ``main`` of a service builds, or that of a package which runs instead of it."""
    main = import_module(f"{package or contract.package_of(service)}.main")
    found = main.build(dependencies(service, verifier))
    assert isinstance(found, Service)
    return found


@cache
def handlers() -> Mapping[str, Handlers]:
    """Return the handlers of every service that takes part in a saga."""
    return {service: Handlers.of(built(service).handlers) for service in contract.services()}
