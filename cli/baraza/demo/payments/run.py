"""A run: merchants are registered, payments requested and followed to their end, and the merchants act on some."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from baraza.demo.payments.listener import Listener
from baraza.demo.payments.plan import Plan, Planned, Then
from baraza.system.client import TIMEOUT_S, trust
from baraza.system.running import Running
from baraza.terminal import Refusal

OPENED_WITHIN_S = 120.0
STALLED_AFTER_S = 180.0
"""A run is stuck when no payment has changed for this long."""
POLL_S = 0.5
REQUESTS_AT_ONCE = 8
ATTEMPTS_MAX = 20
BUSY = frozenset({409, 429, 503})
"""The request may be sent again under its key."""
UNDER_WAY = frozenset({"PENDING"})
PRICE = {"basis_points": 250}

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


@dataclass(slots=True, kw_only=True)
class MerchantClient:
    """Sends what merchants send, each with its own API key."""

    stack: Running
    http: httpx.Client
    keys: dict[str, str] = field(default_factory=dict)

    def send(
        self, merchant_id: str, method: str, path: str, body: Any = None, *, key: str = "", service: str = "merchant",
        bearer: str = "",
    ) -> httpx.Response:  # fmt: skip
        """Return the response of a request, which is sent again under its key while the service is busy."""
        headers = {"Authorization": f"Bearer {bearer or self.keys[merchant_id]}"}
        if key:
            headers["Idempotency-Key"] = key
        url = f"{self.stack.url(service)}{path}"
        for _ in range(ATTEMPTS_MAX):
            answer = self.http.request(method, url, json=body, headers=headers)
            if answer.status_code not in BUSY or not key:
                return answer
            time.sleep(min(float(answer.headers.get("Retry-After", "1")), TIMEOUT_S))
        return answer


@contextmanager
def sending(stack: Running) -> Iterator[MerchantClient]:
    """Yield a client, whose connections are closed afterwards."""
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=trust()) as http:
        yield MerchantClient(stack=stack, http=http)


def register(client: MerchantClient, plan: Plan, listener: Listener) -> None:
    """Register the merchants, wait for their accounts, and give each a key and an endpoint. Raises Refusal."""
    with client.stack.api("merchant") as staff:
        for merchant_id, currency in plan.merchants.items():
            body = {"merchant_id": merchant_id, "name": merchant_id, "currencies": [currency], "price": PRICE}
            staff.call("POST", "/v1/merchants", body=body)
        for merchant_id in plan.merchants:
            _wait_for_accounts(staff.get, merchant_id)
            made = staff.call("POST", f"/v1/merchants/{merchant_id}/api-keys", body={"is_live": False})
            client.keys[merchant_id] = made["api_key"]
    for merchant_id in plan.merchants:
        token = _checked(client.send(merchant_id, "POST", "/v1/tokens"))["access_token"]
        wanted = {"url": f"{listener.url}/{merchant_id}"}
        answer = client.send(merchant_id, "POST", "/v1/webhook-endpoints", wanted, service="notifier", bearer=token)
        listener.secrets[merchant_id] = _checked(answer)["secret"]


def _wait_for_accounts(get: Callable[[str], Any], merchant_id: str) -> None:
    deadline = time.monotonic() + OPENED_WITHIN_S
    while (state := get(f"/v1/merchants/{merchant_id}")["state"]) != "ACTIVE":
        if time.monotonic() > deadline:
            raise Refusal(
                f"The accounts of merchant {merchant_id} are not open after {OPENED_WITHIN_S:.0f} s: {state}."
            )
        time.sleep(POLL_S)


def submit(client: MerchantClient, plan: Plan, run: str, show: Show) -> Payments:
    """Request every payment, in the order of the plan as far as several at once keep it."""
    payments = Payments()

    def request(planned: Planned) -> tuple[Planned, httpx.Response]:
        body = {
            "amount_minor": planned.amount_minor,
            "currency": planned.currency,
            "payment_method": {"type": "card", "token": planned.token},
            "capture": "later" if planned.captures_later else "now",
            "reference": f"{run}-{planned.number}",
        }
        return planned, client.send(planned.merchant_id, "POST", "/v1/payments", body, key=f"{run}-{planned.number}")

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

    def act(payment_id: str) -> list[tuple[str, httpx.Response]]:
        planned = payments.planned[payment_id]
        return [
            (name, client.send(planned.merchant_id, "POST", f"/v1/payments/{payment_id}/{what}", body, key=key))
            for name, what, body, key in _acts(planned, payments.shown[payment_id]["status"], run)
        ]

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        for payment_id, answers in zip(payments.planned, threads.map(act, payments.planned), strict=True):
            for name, answer in answers:
                if answer.is_success:
                    done[name] += 1
                else:
                    payments.refusals[f"{name}: {answer.status_code} {answer.json().get('title', '')}"] += 1
            if answers:
                planned = payments.planned[payment_id]
                payments.shown[payment_id] = _checked(
                    client.send(planned.merchant_id, "GET", f"/v1/payments/{payment_id}")
                )
    return done


def _acts(planned: Planned, status: str, run: str) -> Iterator[tuple[str, str, dict[str, int], str]]:
    """Yield what the merchant requests: its name, the route, the body and the key."""
    key, part = f"{run}-{planned.number}", planned.amount_minor // 2
    if status == "AUTHORIZED" and planned.then is Then.CAPTURE:
        yield "capture", "capture", {}, f"{key}-capture"
    elif status == "AUTHORIZED" and planned.then is Then.CAPTURE_PART:
        yield "capture in part", "capture", {"amount_minor": part}, f"{key}-capture"
    elif status == "AUTHORIZED" and planned.then is Then.VOID:
        yield "void", "cancel", {}, f"{key}-void"
    elif status == "CAPTURED" and planned.then is Then.REFUND:
        yield "refund", "refunds", {}, f"{key}-refund"
    elif status == "CAPTURED" and planned.then is Then.REFUND_PARTS:
        yield "refund in part", "refunds", {"amount_minor": part}, f"{key}-refund-1"
        yield "refund in part", "refunds", {"amount_minor": planned.amount_minor // 4}, f"{key}-refund-2"


def _is_under_way(found: Mapping[str, Any]) -> bool:
    captures = found["status"] == "AUTHORIZED" and found["capture"] == "NOW"
    return captures or found["status"] in UNDER_WAY or any(each["state"] == "PENDING" for each in found["operations"])


def _read(client: MerchantClient, payments: Payments, ids: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    def read(payment_id: str) -> dict[str, Any]:
        answer = client.send(payments.planned[payment_id].merchant_id, "GET", f"/v1/payments/{payment_id}")
        found: dict[str, Any] = _checked(answer)
        return found

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        yield from zip(ids, threads.map(read, ids), strict=True)


def _checked(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise Refusal(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    return answer.json()
