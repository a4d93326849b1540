"""The members process: the step and the reactions on a worker thread, the API on the main thread."""

from __future__ import annotations

from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.process import service
from chassis.process.service import Dependencies, Service
from members import api, measures
from members.handlers import HANDLERS


class Limits(BaseSettings):
    """The requests a second that one caller may send, by role: ``BARAZA_REQUESTS_PER_S_MEMBER`` and so on."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_REQUESTS_PER_S_", frozen=True)

    member: int = api.PER_SECOND["member"]
    teller: int = api.PER_SECOND["teller"]
    treasury: int = api.PER_SECOND["treasury"]
    finance: int = api.PER_SECOND["finance"]
    approver: int = api.PER_SECOND["approver"]
    support: int = api.PER_SECOND["support"]
    operator: int = api.PER_SECOND["operator"]


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    # Requests are accepted while Kafka is unavailable: the outbox keeps their events.
    return Service(
        handlers=HANDLERS,
        app=api.application(dependencies, Limits().model_dump()),
        starts_without=("Kafka",),
        measures=measures.MEASURES,
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
