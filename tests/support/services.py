"""The handlers of every service, as its ``main`` creates them, without any connection."""

from __future__ import annotations

from collections.abc import Mapping

import checkout.handlers
import inventory.handlers
import ledger.handlers
import loyalty.handlers
import merchant.handlers
import notifier.handlers
import payment.handlers
import payment.merchants.steps
import reconciliation.handlers
import risk.handlers
import shipping.collecting
import shipping.handlers
from chassis.http.downstream import Downstream
from chassis.saga.handlers import Handlers
from payment.gateways.registry import Gateways
from payment.http_gateway import HttpPaymentGateway
from payment.lease import CallLease
from payment.merchants.reporting import REACTIONS
from risk.rule_sets import RuleSets
from shipping.http_courier import HttpCourier

NOWHERE = "http://127.0.0.1:1"


def handlers() -> Mapping[str, Handlers]:
    """Return the handlers of every service that takes part in a saga."""
    downstream = Downstream("nowhere", NOWHERE, timeout_s=1.0, concurrency_max=1)
    gateway = HttpPaymentGateway(downstream, CallLease.at("redis://127.0.0.1:1/0"))
    courier = HttpCourier(downstream)
    declared = {
        "checkout": checkout.handlers.HANDLERS,
        "payment": (*payment.handlers.handlers(gateway), *payment.merchants.steps.steps(Gateways({})), *REACTIONS),
        "inventory": inventory.handlers.HANDLERS,
        "loyalty": loyalty.handlers.HANDLERS,
        "shipping": (*shipping.handlers.handlers(courier), shipping.collecting.collecting(courier)),
        "ledger": ledger.handlers.HANDLERS,
        "merchant": merchant.handlers.HANDLERS,
        "risk": risk.handlers.handlers(RuleSets()),
        "notifier": notifier.handlers.HANDLERS,
        "reconciliation": reconciliation.handlers.HANDLERS,
    }
    return {service: Handlers.of(own) for service, own in declared.items()}
