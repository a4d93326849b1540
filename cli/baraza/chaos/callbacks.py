"""The fault in which the courier's webhooks are lost: shipping must learn by its queries what became of a parcel."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import tenacity

from baraza.chaos.schedule import Fault
from baraza.chaos.target import RESTARTED_WITHIN_S, ChaosTarget
from baraza.system.client import Api, Unreachable
from stack.providers import COURIER

Sleep = Callable[[float], None]
Rule = Mapping[str, Any]

OPERATION = "webhook"
MIXED_SHARE = 0.5
"""In this share of the faults some webhooks come twice and some late, instead of never."""
DOUBLED_RATE, LATE_RATE = 0.2, 0.2
DELAY_S = (1.0, 30.0)
"""From before to after shipping's first query."""


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


@contextmanager
def injected(courier: Provider, rules: list[Rule]) -> Iterator[None]:
    """Add these faults while the block runs, and remove all of webhooks at its end, but none of other operations.

    The courier lists them: one may have been added twice, where the first answer was lost.
    """
    try:
        for rule in rules:
            _call(courier, "POST", "/admin/faults", rule)
        yield
    finally:
        for each in _call(courier, "GET", "/admin/faults")["faults"]:
            if each["operation"] == OPERATION:
                _call(courier, "DELETE", f"/admin/faults/{each['id']}")


@tenacity.retry(
    stop=tenacity.stop_after_delay(RESTARTED_WITHIN_S),
    wait=tenacity.wait_fixed(1),
    retry=tenacity.retry_if_exception_type(Unreachable),
    reraise=True,
)
def _call(courier: Provider, method: str, path: str, body: Rule | None = None) -> Any:
    """Make one call. The fault before this one may have killed the courier, so it is retried for a while."""
    return courier.call(method, path, body=body)
