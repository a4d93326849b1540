"""The payment process."""

from __future__ import annotations

from messaging.calls import CALLS_MAX
from messaging.downstream import Downstream
from messaging.service import Parts, Service

from messaging import service
from payment import api, in_process
from payment.fence import CallFence
from payment.handlers import handlers
from payment.http_gateway import HttpPaymentGateway

GATEWAY_TIMEOUT_S = 2.0
"""A gateway that takes longer is taken for silent; the fence around the call outlasts it."""


def build(parts: Parts) -> Service:
    """Wire the service."""
    if parts.settings.gateway_url == in_process.URL:
        return Service(handlers=in_process.HANDLERS, app=api.application(parts))
    downstream = Downstream(
        "gateway", parts.settings.gateway_url, timeout_s=GATEWAY_TIMEOUT_S, concurrency_max=CALLS_MAX
    )
    gateway = HttpPaymentGateway(downstream, CallFence.at(parts.settings.redis_url, parts.settings.redis_login))
    return Service(handlers=handlers(gateway), app=api.application(parts))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
