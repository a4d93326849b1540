"""Mobile money's HTTP API, where staff read what is in doubt, import statements and close days."""

from __future__ import annotations

from fastapi import FastAPI

from chassis.postgres.transient import utc_now
from chassis.process import evidence_api, service
from chassis.process.service import Dependencies


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Mobile money", dependencies, evidence_api.routes(dependencies.engine, clock=utc_now))
