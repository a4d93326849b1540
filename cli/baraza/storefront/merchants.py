"""Merchants as the APIs see them: registered, with open accounts, an API key of test mode and an endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from baraza.storefront.listener import Listener
from baraza.system.client import TIMEOUT_S, trust
from baraza.system.running import Running
from baraza.terminal import Refusal

OPENED_WITHIN_S = 120.0
POLL_S = 0.5
ATTEMPTS_MAX = 20
BUSY = frozenset({409, 429, 503})
"""The request may be sent again under its key."""
PRICE = {"basis_points": 250}


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


def register(client: MerchantClient, currencies: Mapping[str, str], listener: Listener) -> None:
    """Register the merchants, each with its currency, wait for their accounts, and give each a key and an endpoint.

    Raises Refusal.
    """
    with client.stack.api("merchant") as staff:
        for merchant_id, currency in currencies.items():
            body = {"merchant_id": merchant_id, "name": merchant_id, "currencies": [currency], "price": PRICE}
            staff.call("POST", "/v1/merchants", body=body)
        for merchant_id in currencies:
            _wait_for_accounts(staff.get, merchant_id)
            made = staff.call("POST", f"/v1/merchants/{merchant_id}/api-keys", body={"is_live": False})
            client.keys[merchant_id] = made["api_key"]
    for merchant_id in currencies:
        token = checked(client.send(merchant_id, "POST", "/v1/tokens"))["access_token"]
        wanted = {"url": f"{listener.url}/{merchant_id}"}
        answer = client.send(merchant_id, "POST", "/v1/webhook-endpoints", wanted, service="notifier", bearer=token)
        listener.secrets[merchant_id] = checked(answer)["secret"]


def _wait_for_accounts(get: Callable[[str], Any], merchant_id: str) -> None:
    deadline = time.monotonic() + OPENED_WITHIN_S
    while (state := get(f"/v1/merchants/{merchant_id}")["state"]) != "ACTIVE":
        if time.monotonic() > deadline:
            raise Refusal(
                f"The accounts of merchant {merchant_id} are not open after {OPENED_WITHIN_S:.0f} s: {state}."
            )
        time.sleep(POLL_S)


def checked(answer: httpx.Response) -> Any:
    """Return the JSON of an answer. Raises Refusal where it is an error."""
    if not answer.is_success:
        raise Refusal(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    return answer.json()
