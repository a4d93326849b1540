"""The system as its users see it: a shop that submits orders, staff who inspect sagas, and the auditor."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, LiteralString

import httpx
import psycopg
from psycopg import sql

from baraza.audit import report
from baraza.audit.sources import sources_of
from baraza.system.running import Running
from chassis.wire.envelope import new_id
from stack import Stack, issuers
from support.waiting import until

Json = Any
SKU, SCARCE, POINTS = "tea", "caviar", 500
STOCK_UNITS = 1_000_000
ENDED = ("CONFIRMED", "CANCELLED_COMPENSATED")
CONNECTIONS = 16
LOCK_WAITS = """
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND relation = %s::regclass AND mode = 'RowShareLock' AND NOT granted
"""
"""Only a message's transaction locks rows of these tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order that checkout accepted, with the texts that a fault can match."""

    order_id: str
    token: str
    postal_code: str


@dataclass(kw_only=True)
class Shop:
    """One running system. Every order has its own customer, card and address."""

    stack: Stack
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=20.0, trust_env=False))
    tokens: dict[str, str] = field(default_factory=dict)

    def call(self, service: str, method: str, path: str, body: Json = None, **headers: str) -> Json:
        """Call a service's API as staff and return its answer; a refusal fails the test."""
        url = self.stack.endpoints.url(service)
        authorized = {"Authorization": f"Bearer {self.token()}", **headers}
        answer = self.http.request(method, f"{url}{path}", json=body, headers=authorized)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def stock(self) -> None:
        """Fill the catalogue: one product with ample stock, one without any."""
        products = [{"sku": sku, "name": sku, "price_minor": 250, "currency": "USD"} for sku in (SKU, SCARCE)]
        self.call("checkout", "PUT", "/v1/catalogue", {"products": products})
        openings = [{"sku": SKU, "units": STOCK_UNITS}, {"sku": SCARCE, "units": 0}]
        self.call("inventory", "PUT", "/v1/stock/openings", openings)

    def move(self, sku: str, units: int, *, kind: str = "corrected") -> None:
        """Record a movement of stock under a key of its own."""
        movement = {"sku": sku, "kind": kind, "units": units, "reason": "A test."}
        self.call("inventory", "POST", "/v1/stock/movements", [movement], **{"Idempotency-Key": new_id()})

    def sell_out(self, sku: str) -> None:
        """Take out what no order holds."""
        if units := self.level(sku)["on_hand"]:
            self.move(sku, -units)

    def level(self, sku: str) -> Json:
        """Return the stock of a SKU."""
        return self.call("inventory", "GET", f"/v1/stock/{sku}")

    def place(
        self, *, sku: str = SKU, points: int = 0, token: str = "", postal_code: str = "", key: str = ""
    ) -> PlacedOrder:
        """Submit an order; its customer has POINTS points."""
        customer_id = f"customer-{new_id()}"
        if points:
            self.call("loyalty", "PUT", "/v1/accounts/openings", [{"customer_id": customer_id, "points": POINTS}])
        token, postal_code = token or f"tok_{new_id()}", postal_code or new_id()[-20:]
        order = _order(customer_id, token, postal_code, sku=sku, points=points)
        answer = self.call("checkout", "POST", "/v1/orders", order, **{"Idempotency-Key": key or new_id()})
        return PlacedOrder(order_id=answer["order_id"], token=token, postal_code=postal_code)

    def place_bulk(self, count: int) -> list[str]:
        """Submit ``count`` orders in one request; return their ids."""
        orders = [
            _order(f"customer-{new_id()}", f"tok_{new_id()}", new_id()[-20:]) | {"idempotency_key": new_id()}
            for _ in range(count)
        ]
        answer = self.call("checkout", "POST", "/v1/orders/bulk", orders)
        assert answer["accepted"] == count, answer
        return [result["order"]["order_id"] for result in answer["results"]]

    def place_many(self, count: int) -> list[PlacedOrder]:
        """Submit ``count`` orders in parallel."""
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            return list(threads.map(lambda _: self.place(), range(count)))

    def request_return(self, order_id: str, quantity: int, *, postal_code: str = "") -> str:
        """Request a return of so many pieces of an order, and return its id; the courier acts by the postal code."""
        body = {
            "lines": [{"sku": SKU, "quantity": quantity}],
            "collect_from": _address(postal_code or new_id()[-20:]),
            "reason": "Too many.",
        }
        path = f"/v1/orders/{order_id}/returns"
        return_id: str = self.call("checkout", "POST", path, body, **{"Idempotency-Key": new_id()})["return_id"]
        return return_id

    def saga(self, order_id: str) -> Json:
        """Return the saga from the tracker, an empty one while the tracker does not know it."""
        url = f"{self.stack.endpoints.url('saga-tracker-api')}/v1/sagas/{order_id}"
        answer = self.http.get(url, headers={"Authorization": f"Bearer {self.token()}"})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return {"saga": {"state": None, "step": None, "phase": None}, "steps": []}
        assert answer.is_success, answer.text
        return answer.json()

    def outcome(self, order_id: str, within_s: float = 60.0) -> Json:
        """Wait for the saga's end and return it."""
        return until(lambda: self.saga(order_id), f"{order_id} ends", holds=_has_ended, within_s=within_s)

    def knows(self, order_id: str, state: str) -> None:
        """Wait until checkout knows how an order ended; the tracker, which decides it, knows earlier."""
        until(
            lambda: self.call("checkout", "GET", f"/v1/orders/{order_id}")["state"],
            f"checkout knows that {order_id} is {state}",
            holds=lambda known: known == state,
        )

    def reaches(self, order_id: str, step: str) -> None:
        """Wait until the order waits for that step."""
        until(
            lambda: self.saga(order_id)["saga"],
            f"{order_id} waits for {step}",
            holds=lambda saga: (saga["step"], saga["phase"]) == (step, "RUNNING"),
        )

    def timeline(self, order_id: str) -> list[Json]:
        entries: list[Json] = self.call("saga-tracker-api", "GET", f"/v1/sagas/{order_id}/timeline")["entries"]
        return entries

    def cancel(self, order_id: str) -> None:
        """Request the cancellation as the customer does."""
        self.call("checkout", "POST", f"/v1/orders/{order_id}/cancel")

    def fault(self, provider: str, **fault: Json) -> None:
        """Add a fault to a provider, until the faults are cleared."""
        answer = self.http.post(f"{self.stack.endpoints.url(provider)}/admin/faults", json=fault)
        assert answer.is_success, answer.text

    def clear_faults(self) -> None:
        for provider in ("gateway", "courier"):
            self.http.delete(f"{self.stack.endpoints.url(provider)}/admin/faults")

    @contextmanager
    def blocked(self, service: str, *, table: LiteralString = "effects") -> Iterator[None]:
        """Block a service inside its next transaction of a message. Sweeps only read: they pass the lock."""
        with closing(psycopg.connect(self.stack.database_url(service, "owner"))) as connection:
            connection.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(table)))
            yield

    def stands_in_its_transaction(self, service: str, *, table: LiteralString = "effects") -> None:
        """Wait until a blocked service has a message in its transaction."""
        until(lambda: self.rows(service, LOCK_WAITS, table), f"{service} is inside its transaction")

    @contextmanager
    def down(self, service: str) -> Iterator[None]:
        """Stop a service for the block."""
        self.stack.stop(service)
        try:
            yield
        finally:
            self.stack.start(service)

    def rows(self, service: str, query: LiteralString, *values: object) -> list[Any]:
        """Query a service's database with the auditor's login."""
        with closing(psycopg.connect(self.stack.database_url(service, "audit"))) as connection:
            return connection.execute(query, values).fetchall()

    def check_audit(self) -> None:
        """Run the audit, and fail with its findings."""
        found = report.run(sources_of(Running(stack=self.stack)))
        assert found.is_green, [finding.to_json() for finding in found.findings if finding.total]

    def customers_token(self, subject: str, *roles: str) -> str:
        """Return a token of the customers' issuer, which claims these roles."""
        wanted = {"sub": subject, "roles": list(roles), "ttl_s": 600}
        url = issuers.customers_of(self.stack.endpoints.url("issuer"))
        token: str = self.http.post(f"{url}/token", json=wanted).json()["access_token"]
        return token

    def token(self) -> str:
        """Return a token for staff with every role."""
        if not self.tokens:
            roles = ["storefront", "support", "operator", "catalogue", "finance", "bookkeeper"]
            wanted = {"sub": "staff", "roles": roles, "ttl_s": 7_200}
            answer = self.http.post(f"{self.stack.endpoints.url('issuer')}/token", json=wanted)
            self.tokens["staff"] = answer.json()["access_token"]
        return self.tokens["staff"]


def _has_ended(answer: Json) -> bool:
    return answer["saga"]["state"] in ENDED


def _order(customer_id: str, token: str, postal_code: str, *, sku: str = SKU, points: int = 0) -> Json:
    return {
        "customer_id": customer_id,
        "currency": "USD",
        "lines": [{"sku": sku, "quantity": 4}],
        "points_to_burn": points,
        "payment_method": {"token": token},
        "ship_to": _address(postal_code),
    }


def _address(postal_code: str) -> Json:
    return {"name": "A", "street": "B", "city": "C", "postal_code": postal_code, "country": "KE"}
