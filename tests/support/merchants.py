"""Merchant as a process on real PostgreSQL and Redis, and the requests of merchants and staff."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Engine, text

from chassis.saga.handlers import Handlers
from chassis.wire.envelope import new_id
from merchant.handlers import HANDLERS
from messages.contract import Message
from messages.ledger import CaptureCommitted, PaymentCommitted, RefundCommitted, ReversalPosted, VoidCommitted
from messages.payment import GatewayAuthorized, GatewayCaptured
from messages.saga import (
    CaptureFailed,
    MerchantOnboarded,
    PaymentCompleted,
    PaymentFailed,
    RefundFailed,
    VoidFailed,
)
from stack import contract, databases, ports, postgres, redis
from stack.home import Home
from support.checkouts import ISSUER, Api, token, until
from support.executed import Executed

ACCOUNTS = {
    "accounts": [
        {"name": "stripe-test", "gateway": "stripe", "is_live": False, "url": "http://127.0.0.1:1",
         "api_key_file": "/x", "webhook_secret_file": "/x", "settlement_currency": "USD"},
        {"name": "adyen-test", "gateway": "adyen", "is_live": False, "url": "http://127.0.0.1:1",
         "api_key_file": "/x", "webhook_secret_file": "/x", "settlement_currency": "KES", "merchant_account": "B"},
        {"name": "stripe-live", "gateway": "stripe", "is_live": True, "url": "http://127.0.0.1:1",
         "api_key_file": "/x", "webhook_secret_file": "/x", "settlement_currency": "USD"},
    ],
    "routes": [
        {"currency": "USD", "is_live": False, "account": "stripe-test"},
        {"currency": "KES", "is_live": False, "account": "adyen-test"},
        {"currency": "USD", "is_live": True, "account": "stripe-live"},
    ],
}  # fmt: skip
"""Live mode has no route for KES, and no mode one for EUR."""


@dataclass(kw_only=True)
class MerchantStack:
    """The components around merchant, and the merchant processes that a test starts."""

    home: Home
    ports: dict[str, int]
    engine: Engine
    outside: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def environment(self, **changes: str) -> dict[str, str]:
        settings = {
            "SERVICE": "merchant",
            "KAFKA": f"127.0.0.1:{self.ports['nowhere']}",
            "KAFKA_USER": "merchant",
            "KAFKA_PASSWORD_FILE": str(self.home.password_file("merchant")),
            "REGISTRY_URL": self.outside,
            "DATABASE_URL": f"postgresql+psycopg://merchant@127.0.0.1:{self.ports['postgres']}/merchant",
            "DATABASE_PASSWORD_FILE": str(self.home.password_file("merchant")),
            "REDIS_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "REDIS_USER": "merchant",
            "REDIS_PASSWORD_FILE": str(self.home.password_file(redis.secret_of("merchant"))),
            "JWKS_URL": f"{self.outside}/jwks.json",
            "ISSUER": ISSUER,
            "GATEWAY_ACCOUNTS_FILE": str(self.file("accounts.json", json.dumps(ACCOUNTS))),
            "PAYER_KEY_FILE": str(self.file("payer-key", "a key of payers")),
            "MERCHANT_TOKEN_KEY_FILE": str(self.file("token-key", token_key())),
            "REQUESTS_PER_S_MERCHANT": "10000",
            "REQUESTS_PER_S_OPERATOR": "10000",
        } | changes
        return dict(os.environ) | {f"BARAZA_{name}": value for name, value in settings.items()}

    def file(self, name: str, content: str) -> Path:
        """Return a file of the home, written the first time."""
        path = self.home.folder("merchant-files") / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_text(content)
        return path

    def start(self, **changes: str) -> Api:
        """Start a process. Where its port was taken meanwhile, it is started on another one."""
        while True:
            port = ports.choose(["merchant"], {}, {})["merchant"]
            environment = self.environment(HTTP_PORT=str(port), **changes)
            with self.home.log(f"merchant-{port}").open("wb") as log:
                process = subprocess.Popen([sys.executable, "-m", "merchant.main"], env=environment, stderr=log)
            self.processes.append(process)
            api = Api(url=f"http://127.0.0.1:{port}", process=process, log=self.home.log(f"merchant-{port}"))
            until(lambda: process.poll() is not None or api.answers(), f"merchant answers; see {api.log}")  # noqa: B023
            if process.poll() is None:
                return api
            assert "address already in use" in api.log.read_text(), api.log.read_text()

    def migrate(self) -> None:
        connect = partial(postgres.connect, self.ports["postgres"], self.home.password(postgres.SUPERUSER))
        rights = contract.database_rights()
        databases.create(
            connect, self.home.password, {login: rights[login] for login in ("merchant", "merchant_owner")}
        )
        owner = {
            "DATABASE_URL": f"postgresql+psycopg://merchant_owner@127.0.0.1:{self.ports['postgres']}/merchant",
            "DATABASE_PASSWORD_FILE": str(self.home.password_file("merchant_owner")),
        }
        command = [sys.executable, "-m", "chassis.postgres.migrate", "merchant"]
        subprocess.run(command, env=self.environment(**owner), check=True)

    def published(self, saga_id: str) -> list[str]:
        """Return the types of the events in the outbox of a saga, in their order."""
        with self.engine.connect() as tx:
            query = text("SELECT type FROM outbox WHERE aggregateid = :id ORDER BY seq")
            return list(tx.execute(query, {"id": saga_id}).scalars())

    def saga_of(self, payment: str) -> str:
        """Return the saga of a payment or of an operation."""
        query = text("""
            SELECT saga_id FROM payments WHERE payment_id = :id
            UNION ALL SELECT saga_id FROM operations WHERE operation_id = :id
        """)
        with self.engine.connect() as tx:
            return str(tx.execute(query, {"id": int(payment)}).scalar_one())

    def react(self, *events: Message) -> None:
        """Let the service handle events in one batch."""
        Executed(name="merchant", engine=self.engine, handlers=Handlers.of(HANDLERS)).deliver(*events)


def token_key() -> str:
    """Return a new key for tokens, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass(kw_only=True)
class Shopkeeper:
    """A registered merchant and its clients."""

    stack: MerchantStack
    api: Api
    merchant_id: str
    keys: dict[bool, str]

    def client(self, *, is_live: bool = False, api: Api | None = None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[is_live]}"}
        return httpx.Client(base_url=(api or self.api).url, headers=headers, timeout=30)

    def token_client(self, *roles: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token(self.merchant_id, roles)}"}
        return httpx.Client(base_url=self.api.url, headers=headers, timeout=30)

    def captured(self, amount_minor: int = 10_000, **changes: Any) -> dict[str, Any]:
        """Return a payment that captured at once and is in the ledger."""
        with self.client() as client:
            made = pay(client, payment_body(amount_minor=amount_minor, **changes)).json()
            self.stack.react(*captured_events(self.stack, made))
            found: dict[str, Any] = client.get(f"/v1/payments/{made['id']}").json()
        return found

    def authorized(self, amount_minor: int = 10_000) -> dict[str, Any]:
        """Return a payment that is authorized and waits for its capture."""
        with self.client() as client:
            made = pay(client, payment_body(amount_minor=amount_minor, capture="later")).json()
            self.stack.react(*authorized_events(self.stack, made))
            found: dict[str, Any] = client.get(f"/v1/payments/{made['id']}").json()
        return found


def registered(stack: MerchantStack, api: Api, *, onboarded: bool = True, **changes: Any) -> Shopkeeper:
    """Register a merchant with a key of each mode."""
    merchant_id = f"duka-{uuid.uuid4().hex[:12]}"
    body = merchant_body(merchant_id=merchant_id, **changes)
    with staff(api, "operator") as operator:
        made = operator.post("/v1/merchants", json=body)
        assert made.status_code == 202, made.text
        keys = {}
        for is_live in (False, True):
            issued = operator.post(f"/v1/merchants/{merchant_id}/api-keys", json={"is_live": is_live})
            assert issued.status_code == 201, issued.text
            keys[is_live] = issued.json()["api_key"]
    if onboarded:
        onboard(stack, merchant_id)
    return Shopkeeper(stack=stack, api=api, merchant_id=merchant_id, keys=keys)


def onboard(stack: MerchantStack, merchant_id: str) -> None:
    """Let the accounts of a merchant be open."""
    with stack.engine.connect() as tx:
        query = text("SELECT saga_id FROM merchants WHERE merchant_id = :id")
        saga_id = str(tx.execute(query, {"id": merchant_id}).scalar_one())
    stack.react(MerchantOnboarded(**envelope(saga_id, "merchant_onboarding"), started_at=datetime.now(UTC)))


def staff(api: Api, *roles: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token('staff-1', roles)}"}
    return httpx.Client(base_url=api.url, headers=headers, timeout=30)


def merchant_body(**changes: Any) -> dict[str, Any]:
    return {
        "merchant_id": "duka",
        "name": "Duka la Mama",
        "currencies": ["USD", "KES"],
        "price": {"basis_points": 290, "fixed_minor": {"USD": 30}},
    } | changes


def payment_body(**changes: Any) -> dict[str, Any]:
    return {
        "amount_minor": 10_000,
        "currency": "USD",
        "payment_method": {"type": "card", "token": "pm_card_visa"},
        "reference": "order-1",
    } | changes


def new_key() -> str:
    return uuid.uuid4().hex


def pay(client: httpx.Client, body: object = None, key: str | None = None, **headers: str) -> httpx.Response:
    sent = {"Idempotency-Key": key or new_key(), **headers}
    return client.post("/v1/payments", json=payment_body() if body is None else body, headers=sent)


def operate(client: httpx.Client, payment: str, action: str, key: str | None = None, **body: Any) -> httpx.Response:
    """Post a capture, a cancel or a refund."""
    headers = {"Idempotency-Key": key or new_key()}
    return client.post(f"/v1/payments/{payment}/{action}", json=body, headers=headers)


def envelope(saga_id: str, saga_type: str = "payment") -> dict[str, Any]:
    return {
        "message_id": new_id(), "saga_id": saga_id, "saga_type": saga_type, "saga_version": 1,
        "causation_id": new_id(), "occurred_at": datetime.now(UTC),
    }  # fmt: skip


def _of_payment(payment: dict[str, Any]) -> dict[str, Any]:
    return {
        "payment_id": int(payment["id"]), "merchant_id": payment["merchant_id"], "is_live": payment["is_live"],
        "currency": payment["currency"], "gateway_account": "stripe-test",
    }  # fmt: skip


def _at_gateway(payment: dict[str, Any]) -> dict[str, Any]:
    return {
        **_of_payment(payment), "amount_minor": payment["amount_minor"], "reference": payment["reference"],
        "capture": payment["capture"], "fee_minor": payment["fee_minor"], "gateway": "stripe",
        "gateway_payment_id": f"pi_{payment['id']}", "expires_at": None,
    }  # fmt: skip


def captured_events(stack: MerchantStack, payment: dict[str, Any]) -> list[Message]:
    """Return the events of a payment that captures at once, in their order."""
    saga_id, own, amount_minor = stack.saga_of(payment["id"]), _at_gateway(payment), payment["amount_minor"]
    return [
        GatewayAuthorized(**envelope(saga_id), **own),
        GatewayCaptured(**envelope(saga_id), **own, captured_minor=amount_minor),
        PaymentCommitted(**envelope(saga_id), **own, captured_minor=amount_minor),
        PaymentCompleted(**envelope(saga_id), started_at=datetime.now(UTC)),
    ]


def authorized_events(stack: MerchantStack, payment: dict[str, Any]) -> list[Message]:
    """Return the events of a payment that captures later, in their order."""
    saga_id, own = stack.saga_of(payment["id"]), _at_gateway(payment)
    return [
        GatewayAuthorized(**envelope(saga_id), **own),
        GatewayCaptured(**envelope(saga_id), **own, captured_minor=0),
        PaymentCommitted(**envelope(saga_id), **own, captured_minor=0),
        PaymentCompleted(**envelope(saga_id), started_at=datetime.now(UTC)),
    ]


def failed_event(stack: MerchantStack, payment: dict[str, Any], cause: str = "REJECTED") -> PaymentFailed:
    return PaymentFailed(
        **envelope(stack.saga_of(payment["id"])), **_failure(cause, "authorize_gateway", "card_declined")
    )


def _failure(cause: str, step: str, reason: str) -> dict[str, Any]:
    return {"started_at": datetime.now(UTC), "cause": cause, "step": step, "reason": reason}


def capture_committed(stack: MerchantStack, payment: dict[str, Any], operation: dict[str, Any]) -> CaptureCommitted:
    own = {name: value for name, value in _at_gateway(payment).items() if name not in ("capture", "expires_at")}
    return CaptureCommitted(
        **envelope(stack.saga_of(operation["id"]), "capture_later"),
        **own,
        captured_minor=operation["amount_minor"],
        payment_saga_id=stack.saga_of(payment["id"]),
    )


def void_committed(stack: MerchantStack, payment: dict[str, Any], void: str) -> VoidCommitted:
    names = ("capture", "expires_at", "fee_minor")
    own = {name: value for name, value in _at_gateway(payment).items() if name not in names}
    return VoidCommitted(
        **envelope(stack.saga_of(void), "void_payment"), **own, payment_saga_id=stack.saga_of(payment["id"])
    )


def refund_committed(stack: MerchantStack, payment: dict[str, Any], refund: dict[str, Any]) -> RefundCommitted:
    return RefundCommitted(
        **envelope(stack.saga_of(refund["id"]), "refund"),
        **_of_payment(payment),
        refund_id=int(refund["id"]),
        refund_minor=refund["amount_minor"],
        payment_saga_id=stack.saga_of(payment["id"]),
        gateway="stripe",
        gateway_refund_id=f"re_{refund['id']}",
    )


def operation_failed(
    stack: MerchantStack, operation: str, type_: type[CaptureFailed] | type[VoidFailed] | type[RefundFailed]
) -> Message:
    sagas = {CaptureFailed: "capture_later", VoidFailed: "void_payment", RefundFailed: "refund"}
    failure = _failure("REJECTED", "capture_or_void", "refused")
    return type_(**envelope(stack.saga_of(operation), sagas[type_]), **failure)


def reversal(payment: dict[str, Any], kind: str, reversed_minor: int, refund_id: str | None = None) -> ReversalPosted:
    own = {**_of_payment(payment), "amount_minor": payment["amount_minor"], "reference": payment["reference"]}
    return ReversalPosted(
        **envelope(new_id(), "payment_reversal"),
        **own,
        reversal_id=new_id(),
        payment_saga_id=new_id(),
        kind=kind,
        reversed_minor=reversed_minor,
        refund_id=None if refund_id is None else int(refund_id),
        gateway="stripe",
        gateway_reference="dp_1",
        reason="unasked",
    )


def statuses(answers: Sequence[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)
