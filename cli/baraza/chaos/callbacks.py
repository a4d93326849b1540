"""The faults in which webhooks are lost, and gateways answer late or not at all.

Shipping must learn by its queries what became of a parcel, and payment from Stripe what became of a payment. Adyen has
no query; it sends what was lost again, as a merchant requests it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import tenacity

from baraza.chaos.schedule import Fault
from baraza.chaos.target import RESTARTED_WITHIN_S, ChaosTarget
from baraza.system.client import Api, Unreachable
from stack.providers import ACCOUNT_HOLDERS, ADYEN, COURIER, STRIPE

Sleep = Callable[[float], None]
Rule = Mapping[str, Any]

OPERATION = "webhook"
MIXED_SHARE = 0.5
"""In this share of the faults some webhooks come twice and some late, instead of never."""
DOUBLED_RATE, LATE_RATE = 0.2, 0.2
DELAY_S = (1.0, 30.0)
"""From before to after shipping's first query."""
CALLS: Mapping[str, Sequence[str]] = {
    STRIPE: ("confirm", "capture", "cancel", "refund"),
    ADYEN: ("pay", "capture", "cancel", "technical_cancel", "refund"),
}
"""The operations at a gateway of payments that a late answer meets."""
LOST_RATE, FAILED_RATE, HANGING_RATE, SLOW_RATE = 0.25, 0.15, 0.25, 0.4
HANGING_S = (5.0, 15.0)
"""Longer than the caller waits: the gateway acts when the caller believes that nothing is under way."""
SLOW_S = (1.0, 3.5)
"""As long as the caller waits, almost."""


class Provider(Protocol):
    """A provider's simulator."""

    def call(self, method: str, path: str, *, body: Any = None) -> Any: ...


def rules_of(chance: random.Random) -> list[Rule]:
    """Return the faults at the courier's simulator; a webhook meets the first of them that draws it."""
    lost: Rule = {"operation": OPERATION, "kind": "answer_lost"}
    if chance.random() >= MIXED_SHARE:
        return [lost]
    doubled = {"operation": OPERATION, "kind": "hang", "rate": DOUBLED_RATE, "delay_s": chance.uniform(*DELAY_S)}
    late = {"operation": OPERATION, "kind": "slow", "rate": LATE_RATE, "delay_s": chance.uniform(*DELAY_S)}
    return [doubled, late, lost]


def lose(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    """Let the courier send no webhook, or some of them twice or late; the faults of its other operations stay."""
    rules = rules_of(chance)
    with Api(COURIER, target.running.url(COURIER), None) as courier, injected(courier, rules):
        sleep(fault.lasts_s)
    others = ", some twice, some late" if len(rules) > 1 else ""
    return f"the courier's webhooks lost for {fault.lasts_s} s{others}"


def lose_webhooks(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    """Let no gateway of payments send a webhook, or some twice or late. At the end Adyen sends what was lost."""
    rules = rules_of(chance)
    with ExitStack() as opened:
        for name in ACCOUNT_HOLDERS:
            gateway = opened.enter_context(Api(name, target.running.url(name), None))
            if name == ADYEN:
                opened.callback(_call, gateway, "POST", "/admin/webhooks/resend")
            opened.enter_context(injected(gateway, rules))
        sleep(fault.lasts_s)
    others = ", some twice, some late" if len(rules) > 1 else ""
    return f"the gateways' webhooks lost for {fault.lasts_s} s{others}; Adyen's sent again"


def answer_late(target: ChaosTarget, fault: Fault, chance: random.Random, sleep: Sleep) -> str:
    """Let the gateways of payments act, and answer late, with a failure, or not at all."""
    hanging_s, slow_s = round(chance.uniform(*HANGING_S), 1), round(chance.uniform(*SLOW_S), 1)
    with ExitStack() as opened:
        for name in ACCOUNT_HOLDERS:
            gateway = opened.enter_context(Api(name, target.running.url(name), None))
            rules = late_rules_of(name, hanging_s=hanging_s, slow_s=slow_s)
            opened.enter_context(injected(gateway, rules))
        sleep(fault.lasts_s)
    return f"the gateways answered late or not at all for {fault.lasts_s} s, some after {hanging_s} s"


def late_rules_of(gateway: str, *, hanging_s: float, slow_s: float) -> list[Rule]:
    """Return the faults in which a gateway answers late; a call meets the first of them that draws it."""
    return [
        rule
        for operation in CALLS[gateway]
        for rule in (
            {"operation": operation, "kind": "answer_lost", "rate": LOST_RATE, "times": 1},
            {"operation": operation, "kind": "error_after", "rate": FAILED_RATE, "times": 1},
            {"operation": operation, "kind": "hang", "rate": HANGING_RATE, "times": 1, "delay_s": hanging_s},
            {"operation": operation, "kind": "slow", "rate": SLOW_RATE, "delay_s": slow_s},
        )
    ]


@contextmanager
def injected(provider: Provider, rules: list[Rule]) -> Iterator[None]:
    """Add these faults while the block runs, and remove them at its end, but none that was there before.

    The provider lists them: one may have been added twice, where the first answer was lost.
    """
    known = {each["id"] for each in _call(provider, "GET", "/admin/faults")["faults"]}
    try:
        for rule in rules:
            _call(provider, "POST", "/admin/faults", rule)
        yield
    finally:
        for each in _call(provider, "GET", "/admin/faults")["faults"]:
            if each["id"] not in known:
                _call(provider, "DELETE", f"/admin/faults/{each['id']}")


def keep(provider: Provider, rule: Rule) -> None:
    """Add a fault that stays, once, until its provider ends."""
    listed = _call(provider, "GET", "/admin/faults")["faults"]
    if not any(rule.items() <= each.items() for each in listed):
        _call(provider, "POST", "/admin/faults", rule)


@tenacity.retry(
    stop=tenacity.stop_after_delay(RESTARTED_WITHIN_S),
    wait=tenacity.wait_fixed(1),
    retry=tenacity.retry_if_exception_type(Unreachable),
    reraise=True,
)
def _call(provider: Provider, method: str, path: str, body: Rule | None = None) -> Any:
    """Make one call. The fault before this one may have killed the provider, so it is retried for a while."""
    return provider.call(method, path, body=body)
