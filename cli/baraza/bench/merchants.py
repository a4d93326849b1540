"""Merchants of a benchmark, the payments that they request, and the connection that requests them."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Final
from urllib.parse import urlsplit

from baraza.bench.load import RETRY_S, RETRYABLE, TIMEOUT_S, exchange
from baraza.bench.orders import Order
from baraza.system.running import Running
from baraza.terminal import Refusal
from chassis.wire.envelope import new_id

MERCHANTS: Final = 24
PRICE: Final = {"basis_points": 250}
AMOUNT_MINOR: Final = 1_299
PAYERS: Final = 5_000
"""So many others pay between two payments of one payer."""
PAYMENTS_OF_A_PAYER: Final = 4
"""Fewer than the rules of risk take for a stolen card."""
OPENED_WITHIN_S: Final = 120.0
POLL_S: Final = 0.2


def open_merchants(stack: Running, currencies: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Register MERCHANTS merchants, the currencies in turn. Return each one's currency and API key by its id.

    Raises Refusal where their accounts are not open in time.
    """
    run = new_id().lower()[-10:]
    chosen = {f"bench-{run}-{number}": currencies[number % len(currencies)] for number in range(MERCHANTS)}
    keys: dict[str, tuple[str, str]] = {}
    with stack.api("merchant") as staff:
        for merchant_id, currency in chosen.items():
            body = {"merchant_id": merchant_id, "name": merchant_id, "currencies": [currency], "price": PRICE}
            staff.call("POST", "/v1/merchants", body=body)
        deadline_s = time.monotonic() + OPENED_WITHIN_S
        for merchant_id, currency in chosen.items():
            while staff.get(f"/v1/merchants/{merchant_id}")["state"] != "ACTIVE":
                if time.monotonic() > deadline_s:
                    raise Refusal(f"The accounts of {merchant_id} are not open after {OPENED_WITHIN_S:.0f} s.")
                time.sleep(POLL_S)
            made = staff.call("POST", f"/v1/merchants/{merchant_id}/api-keys", body={"is_live": False})
            keys[merchant_id] = (currency, made["api_key"])
    return keys


def payments_of(merchants: Mapping[str, tuple[str, str]]) -> Iterator[Order]:
    """Yield payments of the merchants in turn, each with a key of its own, captured now."""
    ids, run = list(merchants), new_id().lower()
    for number in count():
        merchant_id = ids[number % len(ids)]
        round_of_payers, place = divmod(number, PAYERS * PAYMENTS_OF_A_PAYER)
        payer = round_of_payers * PAYERS + place % PAYERS
        yield Order(f"{run}-{number}", body_of(merchants[merchant_id][0], payer, f"{run}-{number}"), merchant_id)


def body_of(currency: str, payer: int | str, reference: str) -> str:
    """Return a payment's body."""
    return (
        f'{{"amount_minor":{AMOUNT_MINOR},"currency":"{currency}","capture":"now","reference":"{reference}",'
        f'"payment_method":{{"type":"card","token":"pm_bench_{payer}"}}}}'
    )


class MerchantClient:
    """One connection to merchant, for one thread at a time. It appends each payment's status to ``statuses``."""

    def __init__(self, url: str, merchants: Mapping[str, tuple[str, str]], statuses: list[int]) -> None:
        address = urlsplit(url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT_S)
        self._authorization = {merchant_id: f"Bearer {key}" for merchant_id, (_, key) in merchants.items()}
        self._statuses = statuses

    def submit(self, orders: Sequence[Order]) -> list[str | None]:
        """Request payments one after another, and return their ids. Raises Refusal where one is not accepted."""
        return [self._submit(order) for order in orders]

    def request(self, order: Order) -> tuple[int, bytes]:
        """Request a payment once, and return the status and the body of the answer."""
        headers = {
            "Authorization": self._authorization[order.merchant_id],
            "Content-Type": "application/json",
            "Idempotency-Key": order.key,
        }
        status, answer = exchange(self._http, "POST", "/v1/payments", order.body.encode(), headers)
        self._statuses.append(status)
        return status, answer

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _submit(self, order: Order) -> str:
        while True:
            status, answer = self.request(order)
            if status in (200, 202):
                return str(json.loads(answer)["id"])
            if status not in RETRYABLE:
                raise Refusal(f"merchant answered {status} to a payment: {answer[:500]!r}")
            time.sleep(RETRY_S)
