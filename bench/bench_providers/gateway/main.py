"""The payment process with the gateways inside of it: that of orders, and those of merchants' payments."""

from __future__ import annotations

from dataclasses import replace

from bench_providers.gateway.charges import Charges, gateways_at
from bench_providers.gateway.handlers import HANDLERS
from chassis.process import service
from chassis.process.service import Dependencies, Service
from payment.main import with_orders


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    charges = Charges()
    service_of_orders = with_orders(dependencies, HANDLERS, lambda accounts: gateways_at(accounts, charges))
    return replace(service_of_orders, tasks=(*service_of_orders.tasks, charges.task()))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
