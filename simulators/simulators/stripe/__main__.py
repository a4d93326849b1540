"""``python -m simulators.stripe``: PaymentIntents, refunds, events and payout reports, with Stripe's form of each."""

from __future__ import annotations

import hashlib
import hmac
import json

from simulators import gateway_server
from simulators.accounts import Account
from simulators.face import Operation
from simulators.gateway_records import GatewayRecords
from simulators.gateway_server import GatewayKind
from simulators.records import JsonObject, Record
from simulators.stripe import intents, refunds
from simulators.stripe.errors import StripeDialect
from simulators.stripe.later import handlers
from simulators.stripe.ledger import BOOKS
from simulators.stripe.objects import INTENT, REFUND

OF_INTENT = "/v1/payment_intents/{id}"
OPERATIONS = (
    Operation(name="create", path="/v1/payment_intents", apply=intents.create, subject=intents.subject),
    Operation(name="confirm", path=f"{OF_INTENT}/confirm", apply=intents.confirm, subject=intents.subject),
    Operation(name="capture", path=f"{OF_INTENT}/capture", apply=intents.capture, subject=intents.subject),
    Operation(name="cancel", path=f"{OF_INTENT}/cancel", apply=intents.cancel, subject=intents.subject),
    Operation(name="retrieve", path=OF_INTENT, apply=intents.retrieve, subject=intents.subject, method="GET"),
    Operation(name="refund", path="/v1/refunds", apply=refunds.create, subject=refunds.subject),
    Operation(name="list_refunds", path="/v1/refunds", apply=refunds.listed, subject=refunds.subject, method="GET"),
    Operation(
        name="retrieve_refund", path="/v1/refunds/{id}", apply=refunds.retrieve, subject=refunds.subject, method="GET"
    ),
)


def sign(account: Account, body: JsonObject, now: float) -> tuple[bytes, dict[str, str]]:
    """Return an event's bytes and its ``Stripe-Signature``, by each of the account's secrets."""
    raw, stamp = json.dumps(body).encode(), int(now)
    text = f"{stamp}.".encode() + raw
    made = [hmac.new(secret.encode(), text, hashlib.sha256).hexdigest() for secret in account.webhook_secrets]
    return raw, {"Stripe-Signature": ",".join([f"t={stamp}", *(f"v1={each}" for each in made)])}


def subject_of(records: GatewayRecords, kind: str, about: str) -> Record | None:
    """Return the refund or the intent that something is about; of several the newest."""
    wanted = REFUND if kind.startswith("refund") else INTENT
    found = records.of_reference(wanted, about)
    return records.find(wanted, about) or (found[-1] if found else None)


STRIPE = GatewayKind(
    name="stripe", dialect=StripeDialect(), operations=OPERATIONS, books=BOOKS, sign=sign, later=handlers,
    subject_of=subject_of,
)  # fmt: skip

if __name__ == "__main__":
    gateway_server.run(STRIPE)
