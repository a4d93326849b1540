"""The payment process with the gateway inside of it."""

from __future__ import annotations

from bench_providers.gateway.handlers import HANDLERS
from chassis.process import service
from chassis.process.service import Dependencies, Service
from payment import api


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    return Service(handlers=HANDLERS, app=api.application(dependencies))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
