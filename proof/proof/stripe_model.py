"""Stripe in the model: intents, stored answers, keys that are deleted, and events about each change.

An intent authorizes at most once, and a cancelled one never. Whatever began to run under a key is stored, a 500 too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from proof.gateway_books import AMOUNT_MINOR, CURRENCY, PAYMENT_ID, Arrival, Taken
from proof.gateway_calls import Answer, GatewayRequest

CANCELLABLE = ("requires_confirmation", "requires_payment_method", "requires_capture")
DECLINE = {"type": "card_error", "code": "card_declined", "message": "No."}
UNEXPECTED = {"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "message": "It is not so."}
MISSING = {"type": "invalid_request_error", "code": "resource_missing", "message": "No such object."}


@dataclass(frozen=True, slots=True)
class Intent:
    """An intent. ``key`` is that of the request which made it, ``capture_key`` that of its capture."""

    key: str
    status: str
    reason: str | None = None
    capture_key: str | None = None


@dataclass(frozen=True, slots=True)
class StripeRefund:
    """A refund of the first intent."""

    key: str
    status: str


@dataclass(frozen=True, slots=True)
class StripeBooks:
    """What Stripe has. ``errors_left`` bounds its stored 500s; ``expires`` lets an authorization end by itself.

    ``confirms_at_once`` is of a control: a request to create may confirm as well.
    """

    intents: tuple[Intent, ...] = ()
    refunds: tuple[StripeRefund, ...] = ()
    stored: frozenset[tuple[str, Answer]] = frozenset()
    events: frozenset[bytes] = frozenset()
    errors_left: int = 1
    expires: bool = False

    @property
    def taken(self) -> Taken:
        """What was taken of the payer."""
        statuses = [each.status for each in self.intents]
        return Taken(
            held=statuses.count("requires_capture"),
            captured=statuses.count("succeeded"),
            cancelled=statuses.count("canceled"),
            refunded=sum(each.status == "succeeded" for each in self.refunds),
        )

    def a_day_later(self) -> StripeBooks:
        """Return it without the keys that it may delete."""
        return replace(self, stored=frozenset())

    def going_on(self) -> Iterator[tuple[str, StripeBooks]]:
        """Yield what happens without a request."""
        for number, intent in enumerate(self.intents):
            if intent.status == "processing":
                yield "Stripe's processing ends: authorized", self._authorized(number)
                yield "Stripe's processing ends: declined", self._declined(number)
            if intent.status == "requires_capture" and self.expires:
                yield "an authorization expires", self._changed(number, status="canceled", reason="automatic")
        for number, refund in enumerate(self.refunds):
            if refund.status == "pending":
                for status in ("succeeded", "failed"):
                    yield f"a refund is {status}", self._with_refund(number, replace(refund, status=status))

    def arriving(self, asked: GatewayRequest) -> Iterator[Arrival[StripeBooks]]:
        """Yield what a request may lead to, and its answer."""
        if asked.method == "GET":
            yield "", self, self._shown(asked.path)
            return
        known = next((answer for key, answer in self.stored if key == asked.key), None)
        if known is not None:
            yield " (the answer is the stored one)", self, replace(known, is_stored=True)
            return
        for what, after, answer in self._executed(asked):
            yield what, after._storing(asked.key, answer), answer
            if self.errors_left and asked.key is not None:
                fewer = replace(after, errors_left=self.errors_left - 1)
                yield f"{what}, and a 500 is stored", fewer._storing(asked.key, Answer(500)), Answer(500)
        if self.errors_left and asked.key is not None:
            fewer = replace(self, errors_left=self.errors_left - 1)
            yield " without effect, and a 500 is stored", fewer._storing(asked.key, Answer(500)), Answer(500)

    def _executed(self, asked: GatewayRequest) -> Iterator[Arrival[StripeBooks]]:
        if asked.path == "/v1/payment_intents":
            made = Intent(key=asked.given["metadata[key]"], status="requires_confirmation")
            books, number = replace(self, intents=(*self.intents, made)), len(self.intents)
            if asked.given["confirm"] == "false":
                yield "", books, books._intent(number)
            else:
                yield from books._confirmed(number)
        elif asked.path == "/v1/refunds":
            yield from self._refunding(asked.given["metadata[key]"])
        else:
            _, _, _, found, what = asked.path.split("/")
            number = int(found.removeprefix("pi_"))
            if what == "confirm":
                yield from self._confirmed(number)
            elif what == "cancel":
                yield self._cancelling(number, asked.given["cancellation_reason"])
            else:
                yield self._capturing(number, asked.given["metadata[capture_key]"])

    def _confirmed(self, number: int) -> Iterator[Arrival[StripeBooks]]:
        if self.intents[number].status != "requires_confirmation":
            yield ": it is not so", self, _error(400, UNEXPECTED)
            return
        authorized = self._authorized(number)
        yield ": authorized", authorized, authorized._intent(number)
        yield ": declined", self._declined(number), _error(402, DECLINE)
        processing = self._changed(number, status="processing")
        yield ": processing", processing, processing._intent(number)

    def _cancelling(self, number: int, reason: str) -> Arrival[StripeBooks]:
        if self.intents[number].status not in CANCELLABLE:
            return ": it is not so", self, _error(400, UNEXPECTED)
        after = self._changed(number, status="canceled", reason=reason)
        after = after._with_event("payment_intent.canceled", after._body(number))
        return ": cancelled", after, after._intent(number)

    def _capturing(self, number: int, key: str) -> Arrival[StripeBooks]:
        if self.intents[number].status != "requires_capture":
            return ": it is not so", self, _error(400, UNEXPECTED)
        after = self._changed(number, status="succeeded", capture_key=key)
        after = after._with_event("payment_intent.succeeded", after._body(number))
        return ": captured", after, after._intent(number)

    def _refunding(self, key: str) -> Iterator[Arrival[StripeBooks]]:
        for status in ("pending", "succeeded"):
            made = (*self.refunds, StripeRefund(key=key, status=status))
            after = replace(self, refunds=made)._with_refund(len(self.refunds), made[-1])
            yield f": {status}", after, Answer(200, json.dumps(after._refund_body(len(self.refunds))))

    def _authorized(self, number: int) -> StripeBooks:
        after = self._changed(number, status="requires_capture")
        return after._with_event("payment_intent.amount_capturable_updated", after._body(number))

    def _declined(self, number: int) -> StripeBooks:
        after = self._changed(number, status="requires_payment_method")
        return after._with_event("payment_intent.payment_failed", after._body(number))

    def _changed(self, number: int, **changes: Any) -> StripeBooks:
        changed = replace(self.intents[number], **changes)
        return replace(self, intents=(*self.intents[:number], changed, *self.intents[number + 1 :]))

    def _with_refund(self, number: int, refund: StripeRefund) -> StripeBooks:
        after = replace(self, refunds=(*self.refunds[:number], refund, *self.refunds[number + 1 :]))
        return after._with_event("refund.updated", after._refund_body(number))

    def _with_event(self, what: str, shown: Mapping[str, Any]) -> StripeBooks:
        found = f"evt_{what}_{shown['id']}_{shown['status']}"
        body = json.dumps({"id": found, "type": what, "data": {"object": shown}})
        return replace(self, events=self.events | {body.encode()})

    def _storing(self, key: str | None, answer: Answer) -> StripeBooks:
        return self if key is None else replace(self, stored=self.stored | {(key, answer)})

    def _shown(self, path: str) -> Answer:
        if path.startswith("/v1/refunds?"):
            rows = [self._refund_body(number) for number in range(len(self.refunds))]
            return Answer(200, json.dumps({"data": rows}))
        found = path.split("/")[3].split("?")[0]
        kind, _, number = found.partition("_")
        if kind == "re":
            return Answer(200, json.dumps(self._refund_body(int(number))))
        return self._intent(int(number)) if int(number) < len(self.intents) else _error(404, MISSING)

    def _intent(self, number: int) -> Answer:
        return Answer(200, json.dumps(self._body(number)))

    def _body(self, number: int) -> Mapping[str, Any]:
        intent = self.intents[number]
        return {
            "id": f"pi_{number}",
            "object": "payment_intent",
            "status": intent.status,
            "amount": AMOUNT_MINOR,
            "amount_received": AMOUNT_MINOR if intent.status == "succeeded" else 0,
            "currency": CURRENCY.lower(),
            "metadata": {"payment_id": str(PAYMENT_ID), "key": intent.key, "capture_key": intent.capture_key},
            "cancellation_reason": intent.reason,
            "last_payment_error": DECLINE if intent.status == "requires_payment_method" else None,
        }

    def _refund_body(self, number: int) -> Mapping[str, Any]:
        refund = self.refunds[number]
        return {
            "id": f"re_{number}",
            "object": "refund",
            "status": refund.status,
            "amount": AMOUNT_MINOR,
            "currency": CURRENCY.lower(),
            "payment_intent": "pi_0",
            "metadata": {"payment_id": str(PAYMENT_ID), "key": refund.key},
        }


def _error(status: int, error: Mapping[str, str]) -> Answer:
    return Answer(status, json.dumps({"error": error}))
