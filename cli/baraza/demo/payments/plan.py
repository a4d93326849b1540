"""What a run does, chosen by a seed: who pays whom, which payments fail or go back, and which are fraud. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from baraza.storefront.payments import DECLINING, GATEWAYS, Planned, Then
from baraza.storefront.purchases import Purchase

DECLINED, LATER, REFUNDED = 0.04, 0.12, 0.08
"""Shares of the payments."""
LOOKED_AT: Final = 30
"""Purchases that are read for one that is planned: those at other stores are left out."""
BURST_MIN, BURST_MAX = 8, 12
"""How often a stolen card is tried in a burst."""
BURST_AMOUNTS: Final = (199, 499, 999, 1_499)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The merchants with their currency, and the payments in the order of their requests."""

    merchants: dict[str, str]
    payments: Sequence[Planned]


def plan(purchases: Iterable[Purchase], *, count: int, merchants: int, seed: int, run: str) -> Plan:
    """Return the plan of the first purchases at the stores that have most of them.

    The data's dollars stand for euros at every other store. ``run`` is in every merchant's id and token, so that each
    run has merchants and payers of its own.
    """
    chance = random.Random(f"payments {seed}")
    found = list(islice(purchases, count * LOOKED_AT))
    busiest = [store for store, _ in Counter(each.store_id for each in found).most_common(merchants)]
    currencies = {store: tuple(GATEWAYS)[index % len(GATEWAYS)] for index, store in enumerate(busiest)}
    chosen = [each for each in found if each.store_id in currencies][:count]
    honest = [_honest(each, currencies[each.store_id], chance, run) for each in chosen]
    payments = list(_with_fraud(honest, chance, run))
    used = {_merchant(store, run): currency for store, currency in currencies.items()}
    return Plan(merchants=used, payments=payments)


def _honest(purchase: Purchase, currency: str, chance: random.Random, run: str) -> Planned:
    declined, draw = chance.random() < DECLINED, chance.random()
    then = Then.NOTHING
    if draw < LATER:
        then = chance.choice((Then.CAPTURE, Then.CAPTURE_PART, Then.VOID))
    elif draw < LATER + REFUNDED:
        then = chance.choice((Then.REFUND, Then.REFUND_PARTS))
    if purchase.amount_minor < 200:
        then = Then.NOTHING
    return Planned(
        number=0,
        merchant_id=_merchant(purchase.store_id, run),
        currency=currency,
        amount_minor=max(purchase.amount_minor, 50),
        token=DECLINING if declined else f"pm_{run}_household_{purchase.household_id}",
        then=then,
    )


def _with_fraud(honest: Sequence[Planned], chance: random.Random, run: str) -> Iterator[Planned]:
    """Yield the payments by their numbers, with a burst of a stolen card behind every fortieth."""
    number = card = 0
    for index, payment in enumerate(honest):
        burst: list[Planned] = []
        if index % 40 == 20:
            card += 1
            stolen = replace(payment, token=f"pm_{run}_stolen_{card}", then=Then.NOTHING, is_fraud=True)
            times = chance.randint(BURST_MIN, BURST_MAX)
            burst = [replace(stolen, amount_minor=chance.choice(BURST_AMOUNTS)) for _ in range(times)]
        for each in (payment, *burst):
            number += 1
            yield replace(each, number=number)


def _merchant(store_id: int, run: str) -> str:
    return f"store-{store_id}-{run}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """How well the rules found what was injected. The labels are synthetic: they say nothing about real fraud."""

    injected: int
    blocked: int
    blocked_and_injected: int

    @property
    def precision(self) -> float | None:
        """Of the blocked payments, the share that was injected."""
        return self.blocked_and_injected / self.blocked if self.blocked else None

    @property
    def recall(self) -> float | None:
        """Of the injected payments, the share that was blocked."""
        return self.blocked_and_injected / self.injected if self.injected else None
