"""The payment process."""

from __future__ import annotations

from chassis.http import gateway_accounts
from chassis.http.downstream import Downstream
from chassis.process import service
from chassis.process.calls import CALLS_MAX
from chassis.process.service import Dependencies, Service
from chassis.wire.redis import RedisLogin
from payment import api
from payment.gateways.registry import gateways_of
from payment.handlers import handlers
from payment.http_gateway import HttpPaymentGateway
from payment.lease import CallLease
from payment.merchants.steps import steps

GATEWAY_TIMEOUT_S = 2.0
"""A call that takes longer counts as unanswered. The lease of the call outlasts it."""


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    downstream = Downstream(
        "gateway", dependencies.settings.gateway_url, timeout_s=GATEWAY_TIMEOUT_S, concurrency_max=CALLS_MAX
    )
    lease = CallLease.at(dependencies.settings.redis_url, RedisLogin.of(dependencies.settings))
    accounts = gateway_accounts.read(dependencies.settings.gateway_accounts_file).accounts
    gateways = gateways_of(accounts, lease, concurrency_max=CALLS_MAX)
    return Service(
        handlers=(*handlers(HttpPaymentGateway(downstream, lease)), *steps(gateways)),
        app=api.application(dependencies),
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
