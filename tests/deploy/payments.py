"""Runs in a container of the composed network: a merchant pays in test mode at each gateway, and is declined at each.

The argument is the run's name, so that each run has a merchant of its own. It writes one line of JSON: how each payment
ended, and what the notifier answers to the merchant's token. It ends with an error where anything does not happen.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from baraza.storefront.merchants import PRICE, MerchantClient, sending
from baraza.system import running

CURRENCIES = ("USD", "EUR")
"""Payments in the first one go to Stripe, those in the second one to Adyen."""
AMOUNT = 10_000
PAYS, DECLINED = "pm_card_visa", "pm_card_visa_chargeDeclined"
FORBIDDEN_URL = "https://10.0.0.1/webhooks"
WITHIN_S = 120.0
SHOWN = ("gateway", "currency", "status", "captured_minor", "is_live")


def main(run: str) -> dict[str, Any]:
    """Register a merchant, let it pay, and return what became of it."""
    merchant_id, hooks = f"composed-{run}", "/v1/webhook-endpoints"
    with sending(running.find(None)) as client:
        _register(client, merchant_id)
        ids = [_pay(client, merchant_id, currency, token) for currency in CURRENCIES for token in (PAYS, DECLINED)]
        ended = [_ended(client, merchant_id, payment_id) for payment_id in ids]
        token = _sent(client, merchant_id, "POST", "/v1/tokens")["access_token"]
        listed = client.send(merchant_id, "GET", hooks, service="notifier", bearer=token)
        endpoint = {"url": FORBIDDEN_URL}
        refused = client.send(merchant_id, "POST", hooks, endpoint, service="notifier", bearer=token)
    return {
        "payments": [{name: each[name] for name in SHOWN} for each in ended],
        "endpoints_listed": listed.status_code,
        "private_endpoint": refused.status_code,
    }


def _register(client: MerchantClient, merchant_id: str) -> None:
    body = {"merchant_id": merchant_id, "name": "A shop", "currencies": list(CURRENCIES), "price": PRICE}
    path = f"/v1/merchants/{merchant_id}"
    with client.stack.api("merchant") as staff:
        staff.call("POST", "/v1/merchants", body=body)
        _until(lambda: staff.get(path), lambda merchant: merchant["state"] == "ACTIVE")
        client.keys[merchant_id] = staff.call("POST", f"{path}/api-keys", body={"is_live": False})["api_key"]


def _pay(client: MerchantClient, merchant_id: str, currency: str, token: str) -> str:
    body = {
        "amount_minor": AMOUNT,
        "currency": currency,
        "payment_method": {"type": "card", "token": token},
        "reference": f"{currency} {token}",
    }
    paid: str = _sent(client, merchant_id, "POST", "/v1/payments", body, key=f"{merchant_id}-{currency}-{token}")["id"]
    return paid


def _ended(client: MerchantClient, merchant_id: str, payment_id: str) -> dict[str, Any]:
    path = f"/v1/payments/{payment_id}"
    ended: dict[str, Any] = _until(
        lambda: _sent(client, merchant_id, "GET", path), lambda found: found["status"] in ("CAPTURED", "FAILED")
    )
    return ended


def _sent(client: MerchantClient, merchant_id: str, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
    answer = client.send(merchant_id, method, path, body, key=key)
    assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json()


def _until(read: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """Return what is read once it holds. The container has no test's helpers, so it polls by itself."""
    deadline_s = time.monotonic() + WITHIN_S
    while not holds(found := read()):
        assert time.monotonic() < deadline_s, f"After {WITHIN_S:.0f} s it still is: {found}"
        time.sleep(0.5)
    return found


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
