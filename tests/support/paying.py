"""Payment's steps at gateways, on a real database and against a gateway over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import random
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import text

from chassis.http.downstream import Downstream
from chassis.process import callbacks
from chassis.saga.handlers import Handlers
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.ledger import BalanceReserved, RefundReserved
from messages.merchant import CaptureRequested, VoidRequested
from messages.payment import ReversalReported, VoidAuthorization
from messages.saga import FenceSaga
from payment.gateways import adyen_webhooks
from payment.gateways.adyen import AdyenGateway
from payment.gateways.client import Account
from payment.gateways.limiter import Limiter
from payment.gateways.port import Gateway
from payment.gateways.registry import Gateways
from payment.gateways.stripe import StripeGateway
from payment.lease import CallLease
from payment.merchants.callbacks import AdyenWebhooks, GatewayCallbacks, StripeWebhooks
from payment.merchants.reporting import report
from payment.merchants.steps import AUTHORIZE_GATEWAY, CAPTURE_OR_VOID, REFUND_GATEWAY, steps
from proof.schemas import LocalRegistry
from support.builders import a

NO_REDIS = "redis://127.0.0.1:1/0"
STRIPE, ADYEN = "stripe-eu", "adyen-eu"
NUMBERS = itertools.count(random.Random().randrange(2**40, 2**62))
FAST = 10_000.0
SECRET, HEX_KEY = "whsec_one", "44782def547aaa06c910c43932b1eb0c71fc68d9d0c057550c48ec2acf6ba056"


def account(name: str, url: str) -> Account:
    """Return an account at a stub, without a limit that a test could meet."""
    downstream = Downstream(name, url, timeout_s=2.0, concurrency_max=8, failures_max=1_000)
    return Account(downstream, limiter=Limiter(name, FAST), lease=CallLease.at(NO_REDIS))


def stripe(url: str) -> Gateway:
    return StripeGateway(account(STRIPE, url), api_key=lambda: "sk_test_1")


def adyen(url: str) -> Gateway:
    return AdyenGateway(account(ADYEN, url), merchant_account="ShopECOM", api_key=lambda: "AQE1", path="/v72")


@dataclass(kw_only=True)
class Paying(ServiceUnderTest):
    """Payment with its steps at gateways, for one payment."""

    name: str = "payment"
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))
    handlers: Handlers = field(init=False)
    gateways: dict[str, Gateway]
    account: str = STRIPE
    payment_id: int = field(default_factory=lambda: next(NUMBERS))
    currency: str = "EUR"
    amount_minor: int = 5_000
    capture: str = "NOW"
    token: str = "pm_card_visa"

    def __post_init__(self) -> None:
        self.handlers = Handlers.of(steps(Gateways(self.gateways)))

    def of_saga(self) -> Paying:
        """Return the same payment in another saga."""
        other = replace(self, saga_id=new_id(), calls=[], published=[], letters=[], read=[])
        other.now = self.now
        return other

    @property
    def key(self) -> str:
        return f"{self.saga_id}:{AUTHORIZE_GATEWAY}"

    def common(self) -> dict[str, Any]:
        return {
            "saga_id": self.saga_id, "payment_id": self.payment_id, "merchant_id": "shop", "is_live": False,
            "currency": self.currency, "gateway_account": self.account,
        }  # fmt: skip

    def authorize(self) -> list[Message]:
        event = a(
            BalanceReserved, saga_type="payment", amount_minor=self.amount_minor, capture=self.capture,
            payment_method=self.token, **self.common(),
        )  # fmt: skip
        return self.deliver(event)

    def run(self, found: list[Message] | None = None) -> list[Message]:
        """Make the planned calls, one after the other, until none is left; return what is published."""
        published = list(found or [])
        while self.calls:
            published += self.call()
            self.acknowledge()
        return published

    def authorized(self) -> Message:
        """Authorize the payment, and return the event of it."""
        return self.run(self.authorize())[-1]

    def capture_after(self, authorized: Message) -> list[Message]:
        return self.run(self.deliver(authorized))

    def capture_later(self, amount_minor: int, payment_saga_id: str) -> list[Message]:
        event = a(
            CaptureRequested, saga_type="capture_later", amount_minor=self.amount_minor, capture_minor=amount_minor,
            payment_saga_id=payment_saga_id, **self.common(),
        )  # fmt: skip
        return self.deliver(event)

    def void(self, payment_saga_id: str) -> list[Message]:
        event = a(
            VoidRequested, saga_type="void_payment", amount_minor=self.amount_minor, payment_saga_id=payment_saga_id,
            **self.common(),
        )  # fmt: skip
        return self.deliver(event)

    def refund(self, amount_minor: int, payment_saga_id: str, refund_id: int | None = None) -> list[Message]:
        event = a(
            RefundReserved, saga_type="refund", refund_id=refund_id or next(NUMBERS), refund_minor=amount_minor,
            payment_saga_id=payment_saga_id, **self.common(),
        )  # fmt: skip
        return self.deliver(event)

    def compensate(self) -> list[Message]:
        return self.deliver(a(VoidAuthorization, saga_id=self.saga_id, saga_type="payment", step=AUTHORIZE_GATEWAY))

    def fence(self, *names: str) -> list[Message]:
        wanted = list(names or (AUTHORIZE_GATEWAY, CAPTURE_OR_VOID))
        return self.deliver(a(FenceSaga, saga_id=self.saga_id, saga_type="payment", steps=wanted))

    def row(self) -> Any:
        """Return the payment's row."""
        with self.engine.connect() as tx:
            query = text("SELECT * FROM merchant_payments WHERE payment_id = :id")
            return tx.execute(query, {"id": self.payment_id}).one_or_none()

    def refund_row(self, refund_id: int) -> Any:
        with self.engine.connect() as tx:
            return tx.execute(text("SELECT * FROM merchant_refunds WHERE refund_id = :id"), {"id": refund_id}).one()

    @property
    def webhooks(self) -> GatewayCallbacks:
        """The adapter of the payment's account."""
        if self.account == STRIPE:
            return GatewayCallbacks(account=STRIPE, webhooks=StripeWebhooks(account=STRIPE, secrets=lambda: [SECRET]))
        adapter = AdyenWebhooks(
            account=ADYEN, merchant_account="ShopECOM", secrets=lambda: [HEX_KEY], engine=self.engine
        )
        return GatewayCallbacks(account=ADYEN, webhooks=adapter)

    def take(self, body: bytes) -> None:
        """Store a webhook as it comes. Nothing is decided about it yet."""
        headers = [("stripe-signature", stripe_signature(body, self.now))]
        self.webhooks.authenticate(headers, body, self.now)
        callback = callbacks.Callback(adapter=self.webhooks, headers=headers, body=body, at=self.now, new_id=new_id)
        callbacks.take(self.engine, [callback])

    def webhook(self, body: bytes) -> list[Message]:
        """Store a webhook, and let the owner of the partition decide about what it proves of this saga."""
        self.take(body)
        return self.decide()

    def match(self) -> list[Message]:
        """Match the orphans that are due again, and decide about what is found."""
        with self.engine.begin() as tx:
            callbacks.match_orphans(tx, [self.webhooks], now=self.now)
        return self.decide()

    def report(self) -> list[ReversalReported]:
        """Decide about what gateways have reported, and return the reversals of this payment that are published."""
        with self.engine.begin() as tx:
            report(tx, self.codec, now=self.now)
            query = text("DELETE FROM outbox WHERE type LIKE '%ReversalReported' RETURNING payload")
            found = [self.codec.decode(bytes(row.payload)) for row in tx.execute(query)]
        reversals = [each for each in found if isinstance(each, ReversalReported)]
        return [each for each in reversals if each.payment_id == self.payment_id]

    def fates(self) -> list[tuple[str, str]]:
        """Return the items of webhooks about this payment by its number, each with its fate."""
        with self.engine.connect() as tx:
            query = text("SELECT event, fate FROM gateway_notices WHERE payment_id = :id ORDER BY received_at, id")
            return [(row.event, row.fate) for row in tx.execute(query, {"id": self.payment_id})]

    def all_fates(self) -> list[tuple[str, str]]:
        """Return every item of a webhook until now with its fate, in the order in which they came."""
        with self.engine.connect() as tx:
            query = text("SELECT event, fate FROM gateway_notices WHERE received_at <= :now ORDER BY received_at, id")
            return [(row.event, row.fate) for row in tx.execute(query, {"now": self.now})]

    @property
    def authorizing(self) -> str:
        return self.state_of(AUTHORIZE_GATEWAY)

    @property
    def capturing(self) -> str:
        return self.state_of(CAPTURE_OR_VOID)

    @property
    def refunding(self) -> str:
        return self.state_of(REFUND_GATEWAY)


def item(event: str, psp: str, **more: Any) -> dict[str, Any]:
    """Return an item of Adyen's webhooks, signed with the test's key."""
    found: dict[str, Any] = {
        "eventCode": event, "success": "true", "pspReference": psp, "merchantAccountCode": "ShopECOM",
        "eventDate": "2026-01-01T10:00:00+01:00", "amount": {"currency": "EUR", "value": 5_000}, **more,
    }  # fmt: skip
    text = adyen_webhooks.signed_text(found).encode()
    made = hmac.new(bytes.fromhex(HEX_KEY), text, hashlib.sha256).digest()
    return {**found, "additionalData": {"hmacSignature": base64.b64encode(made).decode()}}


def notification(*items: dict[str, Any]) -> bytes:
    """Return the body of Adyen's webhook with these items."""
    listed = [{"NotificationRequestItem": each} for each in items]
    return json.dumps({"live": "false", "notificationItems": listed}).encode()


def stripe_event(what: str, shown: dict[str, Any], **more: Any) -> bytes:
    """Return the body of an event of Stripe's."""
    event = {"id": f"evt_{new_id()}", "object": "event", "type": what, "data": {"object": shown}, **more}
    return json.dumps(event).encode()


def stripe_signature(body: bytes, at: datetime, secret: str = SECRET) -> str:
    """Return the header that signs a body."""
    stamp = str(int(at.timestamp()))
    made = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={made}"
