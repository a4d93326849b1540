"""The ledger process."""

from __future__ import annotations

from messaging.service import Parts, Service

from ledger import api
from ledger.handlers import HANDLERS
from messaging import service


def build(parts: Parts) -> Service:
    """Wire the service."""
    return Service(handlers=HANDLERS, app=api.application(parts))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
