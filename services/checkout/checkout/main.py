"""The checkout process: reactions on a worker thread, the API on the main thread."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.process import service
from chassis.process.service import Dependencies, Service
from checkout import api
from checkout.handlers import HANDLERS


class Limits(BaseSettings):
    """The requests a second that one client may send, by role: ``BARAZA_REQUESTS_PER_S_CUSTOMER`` and so on."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_REQUESTS_PER_S_", frozen=True)

    customer: int = 100
    storefront: int = 5_000
    support: int = 100
    operator: int = 200


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    # Checkout accepts orders while Kafka is unavailable: the outbox keeps their events.
    return Service(
        handlers=HANDLERS, app=api.application(dependencies, Limits().model_dump()), starts_without=("Kafka",)
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
