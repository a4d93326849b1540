"""A running system as merchants see it: an API key, payments over HTTP, and an endpoint that is called back."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from chassis.wire.envelope import new_id
from support.shop import Shop
from support.waiting import until

Json = Any
DECLINED = "pm_card_visa_chargeDeclined"
"""Stripe's own token for tests; the simulators of both gateways act by it. Any other one pays."""
OPEN = frozenset({"PENDING"})
FEE_BASIS_POINTS, FEE_FIXED_MINOR = 250, 30


@dataclass(kw_only=True)
class Endpoint:
    """A merchant's endpoint, on a real HTTP server. Each event is verified with the standard's own package."""

    url: str = ""
    secret: str = ""
    events: list[Json] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def take(self, body: bytes, headers: dict[str, str]) -> int:
        """Keep a verified event and return the status of the answer."""
        try:
            self.events.append(Webhook(self.secret).verify(body, headers) | {"webhook_id": headers["webhook-id"]})
        except WebhookVerificationError as error:
            self.refused.append(f"{error}: {body!r}")
            return 400
        return 204

    def types(self, payment_id: str) -> list[str]:
        """Return the types of the events about a payment, each event once, in the order in which they came."""
        found: dict[str, str] = {}
        for event in list(self.events):
            if payment_id in json.dumps(event["data"]):
                found.setdefault(event["webhook_id"], event["type"])
        return list(found.values())


@contextmanager
def listening() -> Iterator[Endpoint]:
    """Serve an endpoint on a free port of the loopback."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(endpoint.take(body, {name.lower(): text for name, text in self.headers.items()}))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing: the test says what came."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    endpoint.url = f"http://127.0.0.1:{server.server_port}/hooks"
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(kw_only=True)
class Merchant:
    """A merchant with open accounts, a key of one mode, and an endpoint."""

    shop: Shop
    endpoint: Endpoint
    merchant_id: str = field(default_factory=lambda: f"m-{secrets.token_hex(6)}")
    is_live: bool = False

    def register(self, *currencies: str) -> None:
        """Register the merchant, and wait until the ledger has opened its accounts."""
        price = {"basis_points": FEE_BASIS_POINTS, "fixed_minor": dict.fromkeys(currencies, FEE_FIXED_MINOR)}
        body = {"merchant_id": self.merchant_id, "name": "A shop", "currencies": currencies, "price": price}
        self.shop.call("merchant", "POST", "/v1/merchants", body)
        path = f"/v1/merchants/{self.merchant_id}"
        until(lambda: self.shop.call("merchant", "GET", path), "its accounts are open", holds=_is_open)
        created = self.send("notifier", "POST", "/v1/webhook-endpoints", {"url": self.endpoint.url}, self.token)
        self.endpoint.secret = created["secret"]

    @cached_property
    def key(self) -> str:
        path = f"/v1/merchants/{self.merchant_id}/api-keys"
        key: str = self.shop.call("merchant", "POST", path, {"is_live": self.is_live})["api_key"]
        return key

    @cached_property
    def token(self) -> str:
        """A token of some minutes, for the services that take no API key."""
        token: str = self.send("merchant", "POST", "/v1/tokens")["access_token"]
        return token

    def send(self, service: str, method: str, path: str, body: Json = None, bearer: str = "", key: str = "") -> Json:
        """Send a request as the merchant and return the answer; a refusal fails the test."""
        answer = self.request(service, method, path, body, bearer, key)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def request(
        self, service: str, method: str, path: str, body: Json = None, bearer: str = "", key: str = ""
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer or self.key}", "Idempotency-Key": key or new_id()}
        url = f"{self.shop.stack.endpoints.url(service)}{path}"
        return self.shop.http.request(method, url, json=body, headers=headers)

    def pay(self, amount_minor: int, currency: str = "USD", token: str = "", **changes: Json) -> str:
        """Request a payment of a payer of its own, unless the token says otherwise, and return its number."""
        body = {
            "amount_minor": amount_minor,
            "currency": currency,
            "payment_method": {"type": "card", "token": token or f"pm_{new_id()}"},
            "reference": f"order-{new_id()}",
        }
        payment_id: str = self.send("merchant", "POST", "/v1/payments", body | changes)["id"]
        return payment_id

    def payment(self, payment_id: str) -> Json:
        return self.send("merchant", "GET", f"/v1/payments/{payment_id}")

    def reaches(self, payment_id: str, *statuses: str, within_s: float = 90.0) -> Json:
        """Wait until the payment has one of these statuses, and return it."""
        return until(
            lambda: self.payment(payment_id),
            f"payment {payment_id} is {' or '.join(statuses)}",
            holds=lambda found: found["status"] in statuses,
            within_s=within_s,
        )

    def act(self, payment_id: str, what: str, body: Json = None) -> Json:
        """Capture, cancel or refund a payment, and return the answer."""
        return self.send("merchant", "POST", f"/v1/payments/{payment_id}/{what}", body or {})

    def told(self, payment_id: str, *types: str) -> None:
        """Wait until the endpoint has these events about the payment, in any order, and no other."""
        until(
            lambda: self.endpoint.types(payment_id),
            f"the endpoint has {', '.join(types)} of {payment_id}",
            holds=lambda found: sorted(found) == sorted(types),
        )
        assert self.endpoint.refused == []

    def sagas(self, payment_id: str) -> list[Json]:
        """Return the sagas that refer to the payment, the first one first."""
        found: list[Json] = self.shop.call("saga-tracker-api", "GET", f"/v1/sagas?reference={payment_id}")["sagas"]
        return found[::-1]

    def balances(self, currency: str = "USD") -> dict[str, int]:
        """Return what is posted and what is held on the merchant's accounts, by code."""
        owner = self.merchant_id if self.is_live else f"{self.merchant_id}-test"
        rows = self.shop.rows(
            "ledger",
            """SELECT code, kind, sum(debits), sum(credits), sum(held_debits) + sum(held_credits)
               FROM accounts JOIN balances ON account_id = accounts.id
               WHERE owner = %s AND currency = %s GROUP BY code, kind""",
            owner,
            currency,
        )
        assert all(held == 0 for _, _, _, _, held in rows), rows
        return {code: int(credited - debited) for code, _, debited, credited, _ in rows}


def fee_of(amount_minor: int) -> int:
    """Return what we keep of a payment, rounded half up."""
    return (amount_minor * FEE_BASIS_POINTS + 5_000) // 10_000 + FEE_FIXED_MINOR


def _is_open(found: Json) -> bool:
    return found["state"] == "ACTIVE"
