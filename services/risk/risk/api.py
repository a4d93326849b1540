"""Risk's HTTP API."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from chassis.process import service
from chassis.process.service import Dependencies


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Risk", dependencies, APIRouter())
