"""Fault injection at the provider simulators: some calls to gateways and the courier fail, seeded by reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from baraza.system.client import Api, Unreachable
from baraza.system.running import Running

COURIER_FAULTS: tuple[Mapping[str, Any], ...] = (
    {"operation": "book", "kind": "hang", "rate": 0.004, "delay_s": 24},  # past the step's timeout: a late success
    {"operation": "book", "kind": "error", "rate": 0.004},  # never answers this order: its retries are exhausted
    {"operation": "book", "kind": "error", "rate": 0.02, "times": 1},  # the retry succeeds
    {"operation": "book", "kind": "answer_lost", "rate": 0.01, "times": 1},
)
GATEWAY_FAULTS: tuple[Mapping[str, Any], ...] = (
    {"operation": "authorize", "kind": "answer_lost", "rate": 0.005, "times": 1},
    {"operation": "authorize", "kind": "rate_limited", "rate": 0.005, "times": 1},
    {"operation": "capture", "kind": "decline", "rate": 0.003},
    {"operation": "capture", "kind": "slow", "rate": 0.01, "delay_s": 0.5},
)
"""Seeded: the same share of the orders fails, in whatever order their calls come."""

Faults = Mapping[str, Sequence[Mapping[str, Any]]]
ORDER_FAULTS: Faults = {"gateway": GATEWAY_FAULTS, "courier": COURIER_FAULTS}
PAYMENT_FAULTS: Faults = {
    "stripe": (
        {"operation": "confirm", "kind": "answer_lost", "rate": 0.03, "times": 1},
        {"operation": "capture", "kind": "error_after", "rate": 0.03, "times": 1},
        {"operation": "create", "kind": "error", "rate": 0.02, "times": 1},
        {"operation": "webhook", "kind": "slow", "rate": 0.2, "delay_s": 4.0},
        {"operation": "webhook", "kind": "hang", "rate": 0.1, "delay_s": 3.0},
    ),
    "adyen": (
        {"operation": "pay", "kind": "answer_lost", "rate": 0.03, "times": 1},
        {"operation": "capture", "kind": "answer_lost", "rate": 0.03, "times": 1},
        {"operation": "webhook", "kind": "slow", "rate": 0.2, "delay_s": 4.0},
        {"operation": "webhook", "kind": "hang", "rate": 0.1, "delay_s": 3.0},
    ),
}
"""Lost answers, failures before and after the effect, and webhooks that are late or come twice."""

MOBILE_MONEY_FAULTS: Faults = {
    "daraja": (
        {"operation": "b2c", "kind": "lost", "rate": 0.02},
        {"operation": "b2c", "kind": "late", "rate": 0.05, "delay_s": 6.0},
        {"operation": "b2c", "kind": "copies", "rate": 0.05, "count": 3},
        {"operation": "b2c", "kind": "ack_last", "rate": 0.02},
        {"operation": "b2c", "kind": "answer_lost", "rate": 0.02, "times": 1},
        {"operation": "b2c", "kind": "queue_timeout", "rate": 0.01, "delay_s": 8.0},
        {"operation": "b2c", "kind": "result", "rate": 0.02, "code": "2040"},
        {"operation": "stk_push", "kind": "lost", "rate": 0.03},
        {"operation": "stk_push", "kind": "copies", "rate": 0.05, "count": 2},
        {"operation": "c2b", "kind": "lost", "rate": 0.03},
        {"operation": "c2b", "kind": "late", "rate": 0.05, "delay_s": 6.0},
        {"operation": "c2b", "kind": "copies", "rate": 0.05, "count": 2},
    ),
}
"""Callbacks that are lost, late, doubled or before the answer; payouts that time out in a queue and are paid."""


@contextmanager
def faults(stack: Running, providers: Faults = ORDER_FAULTS) -> Iterator[None]:
    """Replace the faults at these providers by these while the block runs, then remove all."""
    apis = {name: Api(name, stack.url(name), None) for name in providers}
    try:
        for name, listed in providers.items():
            apis[name].call("DELETE", "/admin/faults")
            for fault in listed:
                apis[name].call("POST", "/admin/faults", body=dict(fault))
        yield
    finally:
        for api in apis.values():
            with api:
                _remove_faults(api)


def _remove_faults(api: Api) -> None:
    try:
        api.call("DELETE", "/admin/faults")
    except Unreachable:
        return  # A provider that is down injects no fault either; the run itself reports that it is down.
