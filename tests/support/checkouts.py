"""Checkout as a process on real PostgreSQL and Redis, and the requests of its clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from sqlalchemy import Engine

from messages.catalogue import MESSAGES
from stack import contract, databases, identity, ports, postgres, redis
from stack.components import Component
from stack.home import Home

DEADLINE_S = 60.0
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ISSUER = "https://issuer.test"
PRODUCTS = [
    {"sku": f"sku-{number}", "name": f"Product {number}", "price_minor": 100 + number, "currency": "USD"}
    for number in range(20)
] + [
    {"sku": "euro", "name": "From elsewhere", "price_minor": 100, "currency": "EUR"},
    {"sku": "free", "name": "Not for sale", "price_minor": 0, "currency": "USD"},
]


def until(condition: Callable[[], Any], described: str) -> Any:
    """Return the condition's first true value; fail with what was waited for."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > give_up_at:
            pytest.fail(f"Not within {DEADLINE_S} s: {described}")
        threading.Event().wait(0.02)
    return value


class Outside(BaseHTTPRequestHandler):
    """The services that checkout calls: the issuer's keys, and a registry that knows every schema."""

    def do_GET(self) -> None:
        self._answer({"keys": [{**RSAAlgorithm.to_jwk(KEY.public_key(), as_dict=True), "kid": "1"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        schema = json.loads(request["schema"])
        full_name = f"{schema['namespace']}.{schema['name']}"
        subject = self.path.split("?")[0].rpartition("/")[2]
        assert subject.endswith(f"-{full_name}")
        self._answer(
            {"subject": subject, "id": 1 + sorted(MESSAGES).index(full_name), "version": 1, "schema": request["schema"]}
        )

    def _answer(self, body: dict[str, Any]) -> None:
        answer = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(kw_only=True)
class CheckoutStack:
    """The components around checkout, and the checkout processes that a test starts."""

    home: Home
    ports: dict[str, int]
    engine: Engine
    outside: str
    redis: Component
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, **changes: str) -> dict[str, str]:
        settings = {
            "SERVICE": "checkout",
            "KAFKA": f"127.0.0.1:{self.ports['nowhere']}",
            "KAFKA_USER": "checkout",
            "KAFKA_PASSWORD_FILE": str(self.home.password_file("checkout")),
            "REGISTRY_URL": self.outside,
            "DATABASE_URL": f"postgresql+psycopg://checkout@127.0.0.1:{self.ports['postgres']}/checkout",
            "DATABASE_PASSWORD_FILE": str(self.home.password_file("checkout")),
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "REDIS_USER": "checkout",
            "REDIS_PASSWORD_FILE": str(self.home.password_file(redis.secret_of("checkout"))),
            "JWKS_URL": f"{self.outside}/jwks.json",
            "ISSUER": ISSUER,
            "REQUESTS_PER_S_CUSTOMER": "10000",
            "REQUESTS_PER_S_STOREFRONT": "100000",
        } | changes
        return dict(os.environ) | {f"BARAZA_{name}": value for name, value in settings.items()}

    def start(self, **changes: str) -> Api:
        port = ports.choose(["checkout"], {}, {})["checkout"]
        environment = self.environment(HTTP_PORT=str(port), **changes)
        with self.home.log(f"checkout-{port}").open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "checkout.main"], env=environment, stderr=log)
        self.processes.append(process)
        api = Api(url=f"http://127.0.0.1:{port}", process=process, log=self.home.log(f"checkout-{port}"))
        until(api.answers, f"checkout answers; its log: {api.log.read_text()[-2_000:]}")
        return api


@dataclass(kw_only=True)
class Api:
    """A running checkout, as a client sees it."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/livez").status_code == 200
        except httpx.TransportError:
            return False

    def client(self, subject: str = "storefront-1", roles: Sequence[str] = ("storefront",)) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token(subject, roles)}"}, timeout=10)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def token(subject: str, roles: Sequence[str], ttl_s: int = 600) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "baraza", "sub": subject, "iat": now, "exp": now + ttl_s, "roles": list(roles)}
    return jwt.encode(claims, KEY, "RS256", headers={"kid": "1"})


def cart(
    customer: str = "customer-1", lines: Sequence[tuple[str, int]] = (("sku-1", 2),), **changes: Any
) -> dict[str, Any]:
    return {
        "customer_id": customer,
        "currency": "USD",
        "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines],
        "points_to_burn": 0,
        "payment_method": {"token": "tok_visa"},
        "ship_to": {"name": "A. Person", "street": "1 Road", "city": "Town", "postal_code": "12345", "country": "US"},
    } | changes


def new_key() -> str:
    return uuid.uuid4().hex


def post(client: httpx.Client, body: object, key: str | None = None) -> httpx.Response:
    return client.post("/v1/orders", json=body, headers={"Idempotency-Key": key or new_key()})


def launched(component: Component) -> subprocess.Popen[bytes]:
    command = identity.wrapped(component.command, on_death=component.stop_signal, unprivileged=component.unprivileged)
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def migrate(checkout_stack: CheckoutStack) -> None:
    connect = partial(
        postgres.connect, checkout_stack.ports["postgres"], checkout_stack.home.password(postgres.SUPERUSER)
    )
    rights = contract.database_rights()
    databases.create(
        connect, checkout_stack.home.password, {login: rights[login] for login in ("checkout", "checkout_owner")}
    )
    owner = {
        "DATABASE_URL": f"postgresql+psycopg://checkout_owner@127.0.0.1:{checkout_stack.ports['postgres']}/checkout",
        "DATABASE_PASSWORD_FILE": str(checkout_stack.home.password_file("checkout_owner")),
    }
    command = [sys.executable, "-m", "chassis.postgres.migrate", "checkout"]
    subprocess.run(command, env=checkout_stack.environment(**owner), check=True)
