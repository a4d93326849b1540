"""The webhooks of one account at a gateway. Every process stores them as they came, once each; none decides here.

An authorization at Adyen is named by the number of its payment and of the attempt, so the adapter looks up which saga
made that. A refusal waits while the answer to its attempt's call may still come: it may be that of another request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

import structlog
from sqlalchemy import Connection, Engine

from chassis.http.gateway_accounts import GatewayAccount
from chassis.http.signatures import SECRETS_MAX, BadSignature
from chassis.process.callbacks import ITEM
from chassis.saga.attempts import Outcome, attempt_key
from chassis.saga.evidence import Claim, Received
from payment.gateways import adyen_webhooks, stripe_webhooks
from payment.gateways.notices import Notice
from payment.merchants.domain import MerchantPayment, MerchantPaymentState
from payment.merchants.notices_table import NoticeFate, add_notice, has_failed
from payment.merchants.tables import find_payments, is_answered_later

AUTHORIZE = "authorize_gateway"

log = structlog.get_logger()


class Webhooks(Protocol):
    """What the webhooks of one kind of gateway look like."""

    @property
    def headers_kept(self) -> Sequence[str]: ...

    def check(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None: ...

    def items(self, body: bytes) -> int: ...

    def read(self, body: bytes, number: int) -> Notice: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StripeWebhooks:
    """The webhooks of an account at Stripe. ``secrets`` are read anew for each."""

    account: str
    secrets: Callable[[], Sequence[str]]
    headers_kept: Sequence[str] = (stripe_webhooks.SIGNATURE,)

    def check(self, headers: Mapping[str, str], body: bytes, now: datetime) -> None:
        """Raise BadSignature unless Stripe signed this body just now."""
        stripe_webhooks.check(_few(self.secrets()), headers.get(stripe_webhooks.SIGNATURE, ""), body, now)

    def items(self, body: bytes) -> int:
        """Return 1: a body is one event. Raises ValueError for one of another form."""
        stripe_webhooks.parsed(body)
        return 1

    def read(self, body: bytes, _number: int) -> Notice:
        """Return what an event says. Raises ValueError for one of another form."""
        return stripe_webhooks.read(body, self.account)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdyenWebhooks:
    """The webhooks of an account at Adyen. ``secrets`` are read anew for each."""

    account: str
    merchant_account: str
    secrets: Callable[[], Sequence[str]]
    engine: Engine
    headers_kept: Sequence[str] = ()

    def check(self, _headers: Mapping[str, str], body: bytes, _now: datetime) -> None:
        """Raise BadSignature unless Adyen signed each item."""
        try:
            found = adyen_webhooks.items(body)
        except (ValueError, RecursionError) as error:
            raise BadSignature(
                f"The body has another form than agreed, so nothing in it is signed: {error}."
            ) from error
        adyen_webhooks.check(_few(self.secrets()), found)

    def items(self, body: bytes) -> int:
        """Return how many items a body has."""
        return len(adyen_webhooks.items(body))

    def read(self, body: bytes, number: int) -> Notice:
        """Return what an item says; one that names its payment by number is of the saga that made it."""
        item = adyen_webhooks.items(body)[number]
        notice = adyen_webhooks.read(item, self.account, self.merchant_account)
        claim, named = notice.claim, adyen_webhooks.payment_of(item)
        if claim is None or claim.key is not None or named is None:
            return notice
        return self._of_payment(notice, claim, *named)

    def _of_payment(self, notice: Notice, claim: Claim, payment_id: int, number: int) -> Notice:
        with self.engine.connect() as tx:
            payment = find_payments(tx, [payment_id]).found.get(payment_id)
            if payment is None or payment.account != self.account:
                return replace(notice, is_unknown=True)
            about = about_payment(notice, claim, payment, number)
            is_refusal = notice.event == "AUTHORISATION" and claim.outcome is Outcome.REFUSED
            if is_refusal and about.claim is not None and is_answered_later(tx, about.claim.key or ""):
                return replace(notice, is_unknown=True)
        return about


def about_payment(notice: Notice, claim: Claim, payment: MerchantPayment, number: int) -> Notice:
    """Return what an item says that names its payment and an attempt: it is about that attempt to authorize. Pure."""
    key = attempt_key(payment.saga_id, AUTHORIZE, number)
    if notice.event in ("AUTHORISATION", "TECHNICAL_CANCEL"):
        return replace(notice, claim=replace(claim, key=key))
    is_fence = notice.event == "CANCELLATION" and payment.state is MerchantPaymentState.REQUESTED
    if not is_fence:
        return notice
    outcome = Outcome.VOIDED if claim.outcome is Outcome.SUCCEEDED else Outcome.CANCEL_REFUSED
    return replace(notice, claim=Claim(outcome=outcome, key=key, detail=claim.detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayCallbacks:
    """The ``CallbackAdapter`` of one account, whose name is the provider's."""

    account: str
    webhooks: Webhooks

    @property
    def provider(self) -> str:
        """The name of the account."""
        return self.account

    @property
    def headers_kept(self) -> Sequence[str]:
        """The names of the headers that are kept with a body."""
        return self.webhooks.headers_kept

    def authenticate(self, headers: Sequence[tuple[str, str]], body: bytes, now: datetime) -> None:
        """Raise BadSignature unless the gateway sent this."""
        self.webhooks.check(dict(headers), body, now)

    def items(self, body: bytes) -> int:
        """Return how many items a body has. Raises ValueError for one of another form."""
        try:
            return self.webhooks.items(body)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error

    def read(self, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
        """Return what an item says of an attempt; None while its payment is not known. Raises ValueError."""
        notice = self._notice(headers, body)
        return None if notice.is_unknown else notice.claim

    def keep(self, tx: Connection, received: Received) -> bool:
        """Store an item once, with its fate, and return whether it is evidence about an attempt.

        One that cannot be read is kept with the evidence that matches no attempt, where operators see it.
        """
        try:
            notice = self._notice(received.headers, received.body)
        except Exception:  # whatever an odd item leads to: it is kept, and harms no other one
            log.exception("An item of a webhook cannot be read; it is kept as evidence.", account=self.account)
            return True
        fate = NoticeFate.IGNORED
        if notice.claim is not None or notice.is_unknown:
            fate = NoticeFate.EVIDENCE
        elif notice.reported is not None:
            fate = NoticeFate.WAITING
        if self._is_success_after_failure(tx, notice):
            # The ledger has taken the money back. As evidence of a known success it would be passed over. Nor is
            # it booked: it differs from the first success, sent again, only by its time, and that is not signed.
            fate = NoticeFate.STRANGE
            log.error("A success is reported after its failure; a person decides.", reference=notice.reference)
        is_new = add_notice(tx, received, notice, fate)
        return is_new and fate is NoticeFate.EVIDENCE

    def _is_success_after_failure(self, tx: Connection, notice: Notice) -> bool:
        claim = notice.claim
        if notice.event not in ("CAPTURE", "REFUND") or claim is None or claim.outcome is not Outcome.SUCCEEDED:
            return False
        return has_failed(tx, self.account, notice.reference or "")

    def _notice(self, headers: Sequence[tuple[str, str]], body: bytes) -> Notice:
        number = dict(headers).get(ITEM, "0")
        return self.webhooks.read(body, int(number) if number.isascii() and number.isdigit() else 0)


def callbacks_of(accounts: Sequence[GatewayAccount], engine: Engine) -> tuple[GatewayCallbacks, ...]:
    """Return the adapter of each account. No secret is read before the first webhook."""
    return tuple(GatewayCallbacks(account=each.name, webhooks=_webhooks(each, engine)) for each in accounts)


def _webhooks(account: GatewayAccount, engine: Engine) -> Webhooks:
    def secrets() -> Sequence[str]:
        return account.webhook_secrets

    if account.gateway == "stripe":
        return StripeWebhooks(account=account.name, secrets=secrets)
    return AdyenWebhooks(
        account=account.name, merchant_account=account.merchant_account or "", secrets=secrets, engine=engine
    )


def _few(secrets: Sequence[str]) -> Sequence[str]:
    """Return the secrets of an account. Raises ValueError where there is none, or more than a rotation needs."""
    if not 1 <= len(secrets) <= SECRETS_MAX:
        raise ValueError(f"There are {len(secrets)} secrets; give the newest, and at most the one before it.")
    return secrets
