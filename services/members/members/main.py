"""The members process."""

from __future__ import annotations

from chassis.process import service
from chassis.process.service import Dependencies, Service
from members import api
from members.handlers import HANDLERS


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    return Service(handlers=HANDLERS, app=api.application(dependencies))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
