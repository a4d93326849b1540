"""The merchant process: reactions on a worker thread, the API on the main thread."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.process import service
from chassis.process.service import Dependencies, Service
from chassis.telemetry.table_gauges import overdue
from merchant import api, tables
from merchant.handlers import HANDLERS


class Limits(BaseSettings):
    """The requests a second that one caller may send, by role: ``BARAZA_REQUESTS_PER_S_MERCHANT`` and so on."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_REQUESTS_PER_S_", frozen=True)

    merchant: int = api.PER_SECOND["merchant"]
    support: int = api.PER_SECOND["support"]
    finance: int = api.PER_SECOND["finance"]
    operator: int = api.PER_SECOND["operator"]


OVERDUE = overdue(tables.OVERDUE)


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    # Payments are accepted while Kafka is unavailable: the outbox keeps their events.
    return Service(
        handlers=HANDLERS,
        app=api.application(dependencies, Limits().model_dump()),
        starts_without=("Kafka",),
        measures=(OVERDUE,),
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
