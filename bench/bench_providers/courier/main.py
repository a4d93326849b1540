"""The shipping process with the courier inside of it."""

from __future__ import annotations

from bench_providers.courier.handlers import HANDLERS
from chassis.process import service
from chassis.process.service import Dependencies, Service
from shipping import api


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    return Service(handlers=HANDLERS, app=api.application(dependencies))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
