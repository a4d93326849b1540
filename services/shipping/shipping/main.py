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
"""A call that takes longer counts as unanswered. The timeout of the step leaves time for three such calls."""


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    downstream = Downstream(
        "courier", dependencies.settings.courier_url, timeout_s=COURIER_TIMEOUT_S, concurrency_max=CALLS_MAX
    )
    return Service(handlers=handlers(HttpCourier(downstream)), app=api.application(dependencies))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
