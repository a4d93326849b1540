"""The payment process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import text

from chassis.http import gateway_accounts
from chassis.http.downstream import Downstream
from chassis.http.gateway_accounts import GatewayAccount
from chassis.postgres.transient import utc_now
from chassis.process import service
from chassis.process.calls import CALLS_MAX
from chassis.process.service import Dependencies, Service
from chassis.saga.steps import Handler
from chassis.settings import Settings
from chassis.telemetry.table_gauges import measure, overdue
from chassis.wire.redis import RedisLogin
from messages.payment import ReversalReported
from payment import api, tables
from payment.gateways.registry import Gateways, gateways_of
from payment.handlers import handlers
from payment.http_gateway import HttpPaymentGateway
from payment.lease import CallLease
from payment.merchants.callbacks import callbacks_of
from payment.merchants.reporting import EVENTS, REACTIONS, tasks
from payment.merchants.steps import steps

GATEWAY_TIMEOUT_S = 2.0
"""A call that takes longer counts as unanswered. The lease of the call outlasts it."""

NOTICES = measure(
    "baraza_gateway_notices",
    "Items of gateways' webhooks, by account at a gateway and by what became of them.",
    ("account", "fate"),
    text("SELECT account, fate, count(*) FROM gateway_notices GROUP BY account, fate"),
    # The query reads every item.
    age_max_s=60,
)
NOTICES_AGE = measure(
    "baraza_gateway_notices_age_seconds",
    "Age of the oldest report of a gateway that cannot be decided about yet.",
    (),
    text(
        "SELECT coalesce(extract(epoch FROM now() - min(received_at)), 0) FROM gateway_notices "
        "WHERE decide_at IS NOT NULL"
    ),
)

OVERDUE = overdue(tables.OVERDUE)


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    settings = dependencies.settings
    downstream = Downstream("gateway", settings.gateway_url, timeout_s=GATEWAY_TIMEOUT_S, concurrency_max=CALLS_MAX)
    return with_orders(dependencies, handlers(HttpPaymentGateway(downstream, _lease(settings))))


def with_orders(
    dependencies: Dependencies,
    orders: tuple[Handler, ...],
    gateways_at: Callable[[Sequence[GatewayAccount]], Gateways] | None = None,
) -> Service:
    """Wire the service with these handlers for the payments of orders. Those of merchants call the accounts' gateways.

    ``gateways_at`` returns other gateways for the accounts. Raises InvalidGatewayAccounts.
    """
    accounts = gateway_accounts.read(dependencies.settings.gateway_accounts_file).accounts
    if gateways_at is None:
        gateways = gateways_of(accounts, _lease(dependencies.settings), concurrency_max=CALLS_MAX)
    else:
        gateways = gateways_at(accounts)
    return Service(
        handlers=(*orders, *steps(gateways), *REACTIONS),
        app=api.application(dependencies),
        callbacks=callbacks_of(accounts, dependencies.engine),
        tasks=tasks(dependencies.codec, utc_now),
        also_publishes={EVENTS: (ReversalReported,)},
        measures=(NOTICES, NOTICES_AGE, OVERDUE),
    )


def _lease(settings: Settings) -> CallLease:
    return CallLease.at(settings.redis_url, RedisLogin.of(settings))


if __name__ == "__main__":
    raise SystemExit(service.run(build))
