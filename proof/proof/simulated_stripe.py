"""Stripe in a schedule: intents created unconfirmed, GETs that are always true, stored 500s, keys for a day."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from chassis.http.downstream import Response
from proof.simulated_accounts import EXPIRES_AFTER, LATER_S, Held, ReceivedRequest, SimulatedAccount, TooMuch

CANCELLABLE = ("requires_confirmation", "requires_payment_method", "requires_capture")
DECLINE = {"type": "card_error", "code": "card_declined", "message": "No."}
UNEXPECTED = {"type": "invalid_request_error", "code": "payment_intent_unexpected_state", "message": "It is not so."}


@dataclass(slots=True, kw_only=True)
class StripeRefund:
    """A refund of an intent."""

    id: str
    of: Held
    amount_minor: int
    metadata: Mapping[str, str]
    status: str = "pending"


@dataclass(slots=True, kw_only=True)
class SimulatedStripe(SimulatedAccount):
    """One account at Stripe."""

    refunds: dict[str, StripeRefund] = field(default_factory=dict)

    @property
    def keys_live(self) -> timedelta:
        """How long a key is kept."""
        return timedelta(hours=24)

    @property
    def stores_errors(self) -> bool:
        """Whether a 500 is stored under its key."""
        return True

    @property
    def tells_of_replays(self) -> bool:
        """Whether a stored answer says that it is one."""
        return True

    def execute(self, asked: ReceivedRequest) -> Response:
        """Execute a request."""
        path = asked.path.split("?")[0].split("/")[2:]
        if asked.method == "GET":
            return self._show(path, asked.path)
        if path == ["payment_intents"]:
            return self._create(asked.fields)
        if path == ["refunds"]:
            return self._refund(asked.fields)
        intent = self.held[path[1]]
        match path[2]:
            case "confirm":
                return self._confirm(intent)
            case "capture":
                return self._capture(intent, asked.fields)
            case _:
                return self._cancel(intent, str(asked.fields["cancellation_reason"]))

    def _show(self, path: list[str], whole: str) -> Response:
        if path == ["refunds"]:
            of = whole.partition("payment_intent=")[2].partition("&")[0]
            rows = [self._refund_body(each) for each in self.refunds.values() if each.of.id == of]
            return self.answer(200, {"data": rows})
        if path[0] == "refunds":
            return self.answer(200, self._refund_body(self.refunds[path[1]]))
        return self._answer(self.held[path[1]])

    def _create(self, fields: Mapping[str, Any]) -> Response:
        assert fields["confirm"] == "false", "an intent is created unconfirmed"
        intent = Held(
            id=self.new("pi_"),
            payment_id=int(fields["metadata[payment_id]"]),
            amount_minor=int(fields["amount"]),
            currency=str(fields["currency"]),
            key=str(fields["metadata[key]"]),
            status="requires_confirmation",
        )
        self.held[intent.id] = intent
        return self._answer(intent)

    def _confirm(self, intent: Held) -> Response:
        if intent.status != "requires_confirmation":
            return self._error(400, UNEXPECTED)
        if self.chance.random() < 0.1:
            intent.status = "processing"
            self.later(3_600.0, lambda: self._decide(intent))
            return self._answer(intent)
        self._decide(intent)
        return self._error(402, DECLINE) if intent.status == "requires_payment_method" else self._answer(intent)

    def _decide(self, intent: Held) -> None:
        if self.declines():
            intent.status = "requires_payment_method"
            self._event("payment_intent.payment_failed", self._body(intent), can_be_lost=True)
            return
        intent.status = "requires_capture"
        self._event("payment_intent.amount_capturable_updated", self._body(intent), can_be_lost=True)
        self.schedule.at(self.schedule.now + EXPIRES_AFTER, lambda: self._expire(intent))

    def _expire(self, intent: Held) -> None:
        if intent.status == "requires_capture":
            self.on_change()
            intent.status, intent.reason = "canceled", "automatic"
            self._event("payment_intent.canceled", self._body(intent))
            charge = {"id": f"ch_{intent.id}", "payment_intent": intent.id, "currency": intent.currency}
            self._event("charge.expired", {**charge, "amount": intent.amount_minor})

    def _capture(self, intent: Held, fields: Mapping[str, Any]) -> Response:
        if intent.status != "requires_capture":
            return self._error(400, UNEXPECTED)
        amount = int(fields["amount_to_capture"])
        if amount > intent.amount_minor:
            raise TooMuch(f"{amount} of {intent} are captured.")
        intent.status, intent.capture = "succeeded", str(fields["metadata[capture_key]"])
        intent.captured_minor = intent.was_captured_minor = amount
        self._event("payment_intent.succeeded", self._body(intent), can_be_lost=True)
        if self.reverses():
            self.later(LATER_S, lambda: self._dispute(intent))
        return self._answer(intent)

    def _dispute(self, intent: Held) -> None:
        dispute = {
            "id": self.new("dp_"), "payment_intent": intent.id, "currency": intent.currency, "reason": "fraudulent",
            "amount": intent.captured_minor,
        }  # fmt: skip
        intent.disputed_minor = intent.captured_minor
        self._event("charge.dispute.created", {**dispute, "status": "needs_response"})
        self.later(LATER_S, lambda: self._close(intent, dispute, "won" if self.chance.random() < 0.5 else "lost"))

    def _close(self, intent: Held, dispute: Mapping[str, Any], status: str) -> None:
        if status == "won":
            intent.disputed_minor = 0
        self._event("charge.dispute.closed", {**dispute, "status": status})

    def _cancel(self, intent: Held, reason: str) -> Response:
        if intent.status not in CANCELLABLE:
            return self._error(400, UNEXPECTED)
        intent.status, intent.reason = "canceled", reason
        self._event("payment_intent.canceled", self._body(intent), can_be_lost=True)
        return self._answer(intent)

    def _refund(self, fields: Mapping[str, Any]) -> Response:
        intent, amount = self.held[str(fields["payment_intent"])], int(fields["amount"])
        if intent.disputed_minor:
            return self._error(400, {"type": "invalid_request_error", "code": "charge_disputed", "message": "No."})
        if intent.refunded_minor + intent.refunding_minor + amount > intent.captured_minor:
            raise TooMuch(f"{amount} are refunded of {intent}.")
        metadata = {name: str(fields[f"metadata[{name}]"]) for name in ("payment_id", "refund_id", "key")}
        refund = StripeRefund(id=self.new("re_"), of=intent, amount_minor=amount, metadata=metadata)
        self.refunds[refund.id] = refund
        intent.refunding_minor += amount
        if self.chance.random() < 0.5:
            self.later(LATER_S, lambda: self._end(refund))
        else:
            self._end(refund)
        return self.answer(200, self._refund_body(refund))

    def _end(self, refund: StripeRefund) -> None:
        refund.of.refunding_minor -= refund.amount_minor
        if self.reverses():
            refund.status = "failed"
        else:
            refund.status = "succeeded"
            refund.of.refunded_minor += refund.amount_minor
            if self.reverses():
                self.later(LATER_S, lambda: self._take_back(refund))
        self._event("refund.updated", self._refund_body(refund), can_be_lost=refund.status == "succeeded")

    def _take_back(self, refund: StripeRefund) -> None:
        refund.status = "failed"
        refund.of.refunded_minor -= refund.amount_minor
        self._event("refund.failed", self._refund_body(refund))

    def _event(self, what: str, shown: Mapping[str, Any], *, can_be_lost: bool = False) -> None:
        body = {"id": self.new("evt_"), "type": what, "data": {"object": shown}}
        self.deliver(json.dumps(body).encode(), can_be_lost=can_be_lost)

    def _answer(self, intent: Held) -> Response:
        return self.answer(200, self._body(intent))

    def _error(self, status: int, error: Mapping[str, str]) -> Response:
        return self.answer(status, {"error": error})

    def _body(self, intent: Held) -> dict[str, Any]:
        keys = {"key": intent.key, "capture_key": intent.capture or None}
        return {
            "id": intent.id,
            "object": "payment_intent",
            "status": intent.status,
            "amount": intent.amount_minor,
            "amount_received": intent.captured_minor,
            "currency": intent.currency,
            "metadata": {"payment_id": str(intent.payment_id), **keys},
            "cancellation_reason": intent.reason,
            "last_payment_error": DECLINE if intent.status == "requires_payment_method" else None,
        }

    def _refund_body(self, refund: StripeRefund) -> dict[str, Any]:
        return {
            "id": refund.id,
            "object": "refund",
            "status": refund.status,
            "amount": refund.amount_minor,
            "currency": refund.of.currency,
            "payment_intent": refund.of.id,
            "metadata": dict(refund.metadata),
            "failure_reason": "expired_or_canceled_card" if refund.status == "failed" else None,
        }
