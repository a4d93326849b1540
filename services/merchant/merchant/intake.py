"""Accepts payments, one batch in one transaction: keys, payments and outbox rows commit together or not at all."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import Connection

from chassis.http.gateway_accounts import GatewayAccount, GatewayAccounts
from chassis.http.problem import FieldError, Problem, invalid
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.values.money import shown
from chassis.wire.codec import Codec
from chassis.wire.envelope import TRACEPARENT, NewId, child_traceparent, headers, new_id
from merchant import key_tables, merchant_tables, tables
from merchant.bodies import PaymentBody
from merchant.domain import GATEWAY_AMOUNT_MAX_MINOR
from merchant.fingerprints import fingerprint, is_of, key_digest
from merchant.key_tables import UsedKey
from merchant.merchant_tables import MerchantRow
from merchant.tables import NewPayment
from messages.contract import Message, name_of
from messages.merchant import PaymentSubmitted

TOPIC: Final = "merchant.events"
SOURCE: Final = "merchant"
SAGA_TYPE, SAGA_VERSION = "payment", 1
"""The definition of new payments. Payments in flight keep their version."""
ROUTE: Final = "POST /v1/payments"
IN_PROGRESS_RETRY_S: Final = 1
BODY: Final = TypeAdapter(PaymentBody)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A payment that a merchant requests under an idempotency key."""

    merchant_id: str
    is_live: bool
    body: PaymentBody
    digest: bytes
    fingerprint: bytes
    traceparent: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A payment that is stored. ``new`` is what was stored just now; None: an earlier request had it stored."""

    payment_id: int
    new: NewPayment | None = None

    @property
    def is_replay(self) -> bool:
        """Whether an earlier request had it stored."""
        return self.new is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is the same for every batch: how events are encoded, where payments go, and the key that hashes payers."""

    codec: Codec
    accounts: GatewayAccounts
    payer_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The outcomes in the order of the submissions, and the rows to publish after the commit."""

    outcomes: list[Accepted | Problem]
    rows: list[OutboxRow]


def submission(
    merchant_id: str, key: str, body: PaymentBody, traceparent: bytes | None, *, is_live: bool
) -> Submission:
    """Return a request as a submission."""
    return Submission(
        merchant_id=merchant_id,
        is_live=is_live,
        body=body,
        digest=key_digest(merchant_id, ROUTE, key, is_live=is_live),
        fingerprint=fingerprint(BODY, body),
        traceparent=traceparent,
    )


def accept(
    tx: Connection,
    submissions: Sequence[Submission],
    terms: Terms,
    *,
    payment_ids: Sequence[int],
    new_saga_id: NewId,
    now: datetime,
) -> BatchResult:
    """Store the acceptable payments of a batch and return the outcome of each submission.

    ``payment_ids`` are new ones, one for each submission; what is not used of them is lost.

    1. Lock the keys until the transaction ends. A key that another one holds is refused without waiting.
    2. Load what the keys were used for, in a statement of its own: it must see what was committed before the locks.
    3. Check the new ones by their merchants, and choose the account at a gateway.
    4. Store keys, payments and outbox rows.
    """
    first: dict[bytes, Submission] = {}
    for each in submissions:
        first.setdefault(each.digest, each)
    # 1. and 2.
    locked, used = key_tables.lock_keys_and_load(tx, [lock_of(digest) for digest in first], list(first))
    new = [each for index, each in enumerate(first.values()) if index in locked and each.digest not in used]
    # 3.
    merchants = merchant_tables.load(tx, {each.merchant_id for each in new}) if new else {}
    checked = {each.digest: _checked(each, merchants, terms.accounts) for each in new}
    refused = {digest: found for digest, found in checked.items() if isinstance(found, Problem)}
    # 4.
    good = [each for each in new if each.digest not in refused]
    payments = [
        _payment(each, payment_id, new_saga_id(), checked[each.digest], now)
        for each, payment_id in zip(good, payment_ids, strict=False)
    ]
    rows = [_row(payment, each, terms, now) for payment, each in zip(payments, good, strict=True)]
    tables.insert_payments(tx, payments)
    outbox.save(tx, rows)
    stored = {payment.digest: payment for payment in payments}
    outcomes = [_outcome(each, first, refused, used, stored) for each in submissions]
    return BatchResult(outcomes=outcomes, rows=rows)


def _outcome(
    each: Submission,
    first: Mapping[bytes, Submission],
    refused: Mapping[bytes, Problem],
    used: Mapping[bytes, UsedKey],
    stored: Mapping[bytes, NewPayment],
) -> Accepted | Problem:
    new = stored.get(each.digest)
    if new is not None and each is first[each.digest]:
        return Accepted(payment_id=new.payment_id, new=new)
    known = used.get(each.digest) if new is None else new.used_key
    if known is not None:
        return replayed(known, each.fingerprint)
    if each.digest in refused and each.fingerprint == first[each.digest].fingerprint:
        return refused[each.digest]
    return in_progress()


def replayed(used: UsedKey, again: bytes) -> Accepted | Problem:
    """Return the payment of a key, or a problem when the key was used for another body."""
    if not is_of(used.fingerprint, again):
        return other_body()
    return Accepted(payment_id=used.payment_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What a payment is accepted by: its merchant, and the account that takes it."""

    merchant: MerchantRow
    account: GatewayAccount


def _checked(each: Submission, merchants: Mapping[str, MerchantRow], accounts: GatewayAccounts) -> _Checked | Problem:
    merchant, body = merchants.get(each.merchant_id), each.body
    if merchant is None or merchant.state != merchant_tables.ACTIVE:
        return not_active(None if merchant is None else merchant.state)
    if body.currency not in merchant.currencies:
        known = ", ".join(merchant.currencies)
        return _refused("currency", f"The merchant has no accounts in {body.currency}; it has {known}.")
    limit = merchant.amount_max_minor.get(body.currency)
    if limit is not None and body.amount_minor > limit:
        return _refused("amount_minor", f"More than the merchant's limit of {shown(limit, body.currency)} a payment.")
    account = accounts.account_for(each.merchant_id, body.currency, is_live=each.is_live)
    if account is None:
        mode = "live" if each.is_live else "test"
        return _refused(
            "currency",
            f"No gateway takes payments of this merchant in {body.currency} in {mode} mode; have a route added.",
            type="urn:baraza:problem:no-route",
        )
    most = GATEWAY_AMOUNT_MAX_MINOR.get(account.gateway)
    if most is not None and body.amount_minor > most:
        return _refused("amount_minor", f"{account.gateway} takes at most {shown(most, body.currency)} in one payment.")
    return _Checked(merchant=merchant, account=account)


def _refused(field: str, detail: str, *, type: str = "urn:baraza:problem:payment-refused") -> Problem:  # noqa: A002
    return invalid([FieldError(pointer=f"#/{field}", detail=detail)], type=type)


def _payment(each: Submission, payment_id: int, saga_id: str, checked: _Checked | Problem, now: datetime) -> NewPayment:
    assert isinstance(checked, _Checked)
    body = each.body
    price = checked.merchant.price(body.currency)
    return NewPayment(
        digest=each.digest,
        fingerprint=each.fingerprint,
        payment_id=payment_id,
        saga_id=saga_id,
        merchant_id=each.merchant_id,
        is_live=each.is_live,
        amount_minor=body.amount_minor,
        currency=body.currency,
        capture=body.capture.upper(),
        reference=body.reference,
        metadata=body.metadata or {},
        method_type=body.payment_method.type,
        holder_name=body.payment_method.holder_name,
        gateway_account=checked.account.name,
        gateway=checked.account.gateway,
        basis_points=price.basis_points,
        fixed_minor=price.fixed_minor,
        fee_minor=price.fee_minor(body.amount_minor),
        created_at=now,
    )


def _row(payment: NewPayment, each: Submission, terms: Terms, now: datetime) -> OutboxRow:
    token = each.body.payment_method.token
    event = PaymentSubmitted(
        message_id=new_id(),
        saga_id=payment.saga_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=now,
        payment_id=payment.payment_id,
        merchant_id=payment.merchant_id,
        is_live=payment.is_live,
        currency=payment.currency,
        amount_minor=payment.amount_minor,
        reference=payment.reference,
        gateway_account=payment.gateway_account,
        capture=payment.capture,
        fee_minor=payment.fee_minor,
        payment_method=token,
        payer=payer_of(terms.payer_key, payment.merchant_id, token, is_live=payment.is_live),
    )
    return outbox_row(event, terms.codec, each.traceparent)


def payer_of(key: bytes, merchant_id: str, token: str, *, is_live: bool) -> str:
    """Return the keyed hash of a payer: the same for each payment of one token with one merchant in one mode."""
    text = f"{len(merchant_id)}:{merchant_id}{'live' if is_live else 'test'}{token}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def outbox_row(event: Message, codec: Codec, request: bytes | None) -> OutboxRow:
    """Return the outbox row of a request's event, in the request's trace context or (None) in a new trace.

    The row has no partition: the producer chooses one by the key.
    """
    return OutboxRow(
        id=event.message_id,
        topic=TOPIC,
        saga_id=event.saga_id,
        type=name_of(type(event)),
        payload=codec.encode(TOPIC, event),
        headers=headers(event, source=SOURCE, traceparent=child_traceparent(request)),
        partition=None,
        cause=() if request is None else ((TRACEPARENT, request),),
    )


def lock_of(digest: bytes) -> int:
    """Return the number of a key's advisory lock."""
    return int.from_bytes(digest[:8], signed=True)


def in_progress() -> Problem:
    """Return the problem of a key that another request is using."""
    return Problem(
        status=409,
        title="A request with this key is in progress",
        detail="Another request with this Idempotency-Key is being handled; send this one again after it.",
        type="urn:baraza:problem:idempotency-in-progress",
        headers={"Retry-After": str(IN_PROGRESS_RETRY_S)},
    )


def other_body() -> Problem:
    """Return the problem of a key that was used for another body."""
    return Problem(
        status=422,
        title="The key was used for another body",
        detail="This Idempotency-Key was used for another request; send a new one with a new key.",
        type="urn:baraza:problem:idempotency-mismatch",
    )


def not_active(state: str | None) -> Problem:
    """Return the problem of a merchant whose payments are not taken."""
    reasons = {
        merchant_tables.REGISTERED: "Its accounts are being opened; try again shortly.",
        merchant_tables.FAILED: "Its accounts could not be opened; ask for a look at its registration.",
        merchant_tables.CLOSED: "It is closed.",
    }
    return Problem(
        status=403,
        title="The merchant takes no payments",
        detail=f"The merchant takes no payments. {reasons.get(state or '', 'It is not registered.')}",
        type="urn:baraza:problem:merchant-not-active",
    )
