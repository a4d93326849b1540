"""The checkout process: its reactions on a thread, its API in front."""

from __future__ import annotations

from chassis.process import service
from chassis.process.service import Dependencies, Service
from pydantic_settings import BaseSettings, SettingsConfigDict

from checkout import api
from checkout.handlers import HANDLERS


class Limits(BaseSettings):
    """Requests a second that one client may send, by its role: ``BARAZA_REQUESTS_PER_S_CUSTOMER`` and so on."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_REQUESTS_PER_S_", frozen=True)

    customer: int = 100
    storefront: int = 5_000
    support: int = 100
    operator: int = 200


def build(parts: Dependencies) -> Service:
    """Wire the service."""
    # Orders are taken in while Kafka is away: the outbox keeps their events.
    return Service(handlers=HANDLERS, app=api.application(parts, Limits().model_dump()), starts_without=("Kafka",))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
