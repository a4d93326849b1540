"""The shipping process."""

from __future__ import annotations

from chassis.http.downstream import Downstream
from chassis.process import service
from chassis.process.calls import CALLS_MAX
from chassis.process.service import Dependencies, Service

from shipping import api
from shipping.handlers import handlers
from shipping.http_courier import HttpCourier

COURIER_TIMEOUT_S = 2.0
"""A courier that takes longer is taken for silent; the saga's own timeout leaves room for three such calls."""


def build(parts: Dependencies) -> Service:
    """Wire the service."""
    downstream = Downstream(
        "courier", parts.settings.courier_url, timeout_s=COURIER_TIMEOUT_S, concurrency_max=CALLS_MAX
    )
    return Service(handlers=handlers(HttpCourier(downstream)), app=api.application(parts))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
