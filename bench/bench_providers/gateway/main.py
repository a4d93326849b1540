"""The payment process with the gateway of orders inside of it."""

from __future__ import annotations

from bench_providers.gateway.handlers import HANDLERS
from chassis.process import service
from chassis.process.service import Dependencies, Service
from payment.main import with_orders


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    return with_orders(dependencies, HANDLERS)


if __name__ == "__main__":
    raise SystemExit(service.run(build))
