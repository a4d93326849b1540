"""The mobile-money process with the provider inside of it."""

from __future__ import annotations

from dataclasses import replace

from bench_providers.mobile_money.provider import Books, providers_at
from chassis.process import service
from chassis.process.service import Dependencies, Service
from mobile_money.main import with_providers


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    books = Books()
    found = with_providers(dependencies, lambda codes: providers_at(codes, books, dependencies.engine))
    return replace(found, tasks=(*found.tasks, books.task()))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
