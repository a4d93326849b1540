"""A run: payments are requested and followed to their end, and the merchants act on some."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from baraza.demo.payments.plan import Plan
from baraza.storefront.merchants import MerchantClient, checked
from baraza.storefront.payments import Planned, acts
from baraza.terminal import Refusal

STALLED_AFTER_S = 180.0
"""A run is stuck when no payment has changed for this long."""
POLL_S = 0.5
REQUESTS_AT_ONCE = 8
UNDER_WAY = frozenset({"PENDING"})

Show = Callable[[int], None]


class Stalled(Refusal):
    """Nothing moves any more. See the timelines of the payments that it names."""


@dataclass(slots=True, kw_only=True)
class Payments:
    """The payments of a run: what was planned and how each stands, by its number."""

    planned: dict[str, Planned] = field(default_factory=dict)
    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)

    def statuses(self) -> Counter[str]:
        """Count the payments by status."""
        return Counter(each["status"] for each in self.shown.values())


def submit(client: MerchantClient, plan: Plan, run: str, show: Show) -> Payments:
    """Request every payment, in the order of the plan as far as several at once keep it."""
    payments = Payments()

    def request(planned: Planned) -> tuple[Planned, httpx.Response]:
        key = f"{run}-{planned.number}"
        return planned, client.send(planned.merchant_id, "POST", "/v1/payments", planned.body(key), key=key)

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        for planned, answer in threads.map(request, plan.payments):
            show(1)
            if answer.is_success:
                found = answer.json()
                payments.planned[found["id"]] = planned
                payments.shown[found["id"]] = found
            else:
                payments.refusals[f"{answer.status_code} {answer.json().get('title', '')}"] += 1
    return payments


def settle(client: MerchantClient, payments: Payments, show: Show) -> None:
    """Follow every payment and every operation to its end. Raises Stalled."""
    moved_at_s = time.monotonic()
    while waiting := [payment_id for payment_id, found in payments.shown.items() if _is_under_way(found)]:
        moved = 0
        for payment_id, found in _read(client, payments, waiting):
            moved += payments.shown[payment_id] != found
            show(not _is_under_way(found))
            payments.shown[payment_id] = found
        if moved:
            moved_at_s = time.monotonic()
        elif time.monotonic() - moved_at_s > STALLED_AFTER_S:
            raise Stalled(f"{len(waiting)} payments do not move any more, for example {', '.join(waiting[:5])}.")
        else:
            time.sleep(POLL_S)


def follow_up(client: MerchantClient, payments: Payments, run: str) -> Mapping[str, int]:
    """Let the merchants capture, void and refund what is planned, and return how many of each were accepted."""
    done: Counter[str] = Counter()

    def request(payment_id: str) -> list[tuple[str, httpx.Response]]:
        planned, path = payments.planned[payment_id], f"/v1/payments/{payment_id}"
        return [
            (act.name, client.send(planned.merchant_id, "POST", f"{path}/{act.route}", act.body, key=act.key))
            for act in acts(planned, payments.shown[payment_id]["status"], f"{run}-{planned.number}")
        ]

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        for payment_id, answers in zip(payments.planned, threads.map(request, payments.planned), strict=True):
            for name, answer in answers:
                if answer.is_success:
                    done[name] += 1
                else:
                    payments.refusals[f"{name}: {answer.status_code} {answer.json().get('title', '')}"] += 1
            if answers:
                planned = payments.planned[payment_id]
                payments.shown[payment_id] = checked(
                    client.send(planned.merchant_id, "GET", f"/v1/payments/{payment_id}")
                )
    return done


def _is_under_way(found: Mapping[str, Any]) -> bool:
    captures = found["status"] == "AUTHORIZED" and found["capture"] == "NOW"
    return captures or found["status"] in UNDER_WAY or any(each["state"] == "PENDING" for each in found["operations"])


def _read(client: MerchantClient, payments: Payments, ids: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    def read(payment_id: str) -> dict[str, Any]:
        answer = client.send(payments.planned[payment_id].merchant_id, "GET", f"/v1/payments/{payment_id}")
        found: dict[str, Any] = checked(answer)
        return found

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        yield from zip(ids, threads.map(read, ids), strict=True)
