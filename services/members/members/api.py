"""Members' HTTP API: the channel's, members' own with their tokens, and that of staff."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from chassis.process import service
from chassis.process.service import Dependencies


def application(dependencies: Dependencies) -> FastAPI:
    """Return the API."""
    return service.api("Members", dependencies, APIRouter())
