"""Adyen in a schedule: payments, and modifications that are only ever received; their outcome is a webhook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from chassis.http.downstream import Response
from proof.simulated_accounts import EXPIRES_AFTER, LATER_S, Held, ReceivedRequest, SimulatedAccount, TooMuch

MERCHANT_ACCOUNT: Final = "Shop"
TAKES_S = (0.1, 3_600.0, 86_400.0)
"""How long a modification takes, at most. The shortest is over before its answer."""
CODES = {"captures": "CAPTURE", "refunds": "REFUND", "cancels": "CANCELLATION"}


@dataclass(slots=True, kw_only=True)
class Modification:
    """A request about a payment, which is None where it is named by our reference and unknown."""

    id: str
    kind: str
    of: str | None
    payment_id: str
    reference: str
    amount_minor: int


@dataclass(slots=True, kw_only=True)
class SimulatedAdyen(SimulatedAccount):
    """One account at Adyen. ``names_payment``: its webhooks name the payment, and not the modification."""

    changes: list[Modification] = field(default_factory=list)

    @property
    def keys_live(self) -> timedelta:
        """How long a key is kept."""
        return timedelta(days=7)

    @property
    def stores_errors(self) -> bool:
        """Whether a 500 is stored under its key."""
        return False

    @property
    def tells_of_replays(self) -> bool:
        """Whether a stored answer says that it is one."""
        return False

    def execute(self, asked: ReceivedRequest) -> Response:
        """Execute a request."""
        path = asked.path.split("/")[1:]
        if path == ["payments"]:
            return self._pay(asked.fields)
        if path == ["cancels"]:
            found = next((each for each in self.held.values() if self._is(each, asked.fields)), None)
            return self._take("technical", found, asked.fields)
        return self._take(path[2], self.held[path[1]], asked.fields)

    def _is(self, payment: Held, fields: Mapping[str, Any]) -> bool:
        return str(payment.payment_id) == str(fields["paymentReference"])

    def _pay(self, fields: Mapping[str, Any]) -> Response:
        payment = Held(
            id=self.new("PSP"),
            payment_id=int(fields["reference"]),
            amount_minor=int(fields["amount"]["value"]),
            currency=str(fields["amount"]["currency"]),
            key=str(fields["metadata"]["key"]),
            status="received",
        )
        self.held[payment.id] = payment
        if self.chance.random() < 0.2:
            self.later(3_600.0, lambda: self._decide(payment))
        else:
            self._decide(payment)
        code = {"received": "Received", "refused": "Refused", "authorised": "Authorised"}[payment.status]
        said = {"resultCode": code, "pspReference": payment.id, "merchantReference": str(payment.payment_id)}
        return self.answer(200, {**said, "amount": fields["amount"]})

    def _decide(self, payment: Held) -> None:
        if payment.status != "received":
            return
        payment.status = "refused" if self.declines() else "authorised"
        self._item("AUTHORISATION", payment, psp=payment.id, is_done=payment.status == "authorised")
        if payment.status == "authorised":
            self.schedule.at(self.schedule.now + EXPIRES_AFTER, lambda: self._expire(payment))

    def _expire(self, payment: Held) -> None:
        if payment.status == "authorised":
            self.on_change()
            payment.status = "expired"
            self._item("EXPIRE", payment, psp=self.new("EXP"), original=payment.id)

    def _take(self, kind: str, payment: Held | None, fields: Mapping[str, Any]) -> Response:
        """Take a modification. One at our own reference is looked up again when it is carried out."""
        change = Modification(
            id=self.new("MOD"),
            kind=kind,
            of=None if payment is None else payment.id,
            payment_id=str(fields.get("paymentReference", "" if payment is None else payment.payment_id)),
            reference=str(fields["reference"]),
            amount_minor=int(fields["amount"]["value"]) if "amount" in fields else 0,
        )
        if kind == "refunds" and payment is not None:
            if payment.refunded_minor + payment.refunding_minor + change.amount_minor > payment.was_captured_minor:
                raise TooMuch(f"{change.amount_minor} are refunded of {payment}.")
            payment.refunding_minor += change.amount_minor
        self.changes.append(change)
        self.later(self.chance.choice(TAKES_S), lambda: self._carry_out(change))
        said: dict[str, object] = {"status": "received", "pspReference": change.id}
        about = {} if kind == "technical" or payment is None else {"paymentPspReference": payment.id}
        return self.answer(201, {**said, **about})

    def _carry_out(self, change: Modification) -> None:
        found = (each for each in self.held.values() if str(each.payment_id) == change.payment_id)
        payment = next(found, None) if change.of is None else self.held[change.of]
        if payment is None:
            self._told("TECHNICAL_CANCEL", change, None, is_done=False)
            return
        match change.kind:
            case "captures":
                self._captured(change, payment)
            case "refunds":
                self._refunded(change, payment)
            case _:
                is_done = payment.status in ("authorised", "received", "canceled")
                if is_done:
                    payment.status = "canceled"
                self._told(CODES.get(change.kind, "TECHNICAL_CANCEL"), change, payment, is_done=is_done)

    def _captured(self, change: Modification, payment: Held) -> None:
        if change.amount_minor > payment.amount_minor:
            raise TooMuch(f"{change.amount_minor} of {payment} are captured.")
        is_done = payment.status == "authorised" and not self.declines()
        if is_done:
            payment.status, payment.capture = "captured", change.id
            payment.captured_minor = payment.was_captured_minor = change.amount_minor
            if self.reverses():
                self.later(LATER_S, lambda: self._fail_capture(change, payment))
            elif self.reverses():
                self.later(LATER_S, lambda: self._dispute(payment))
        self._told("CAPTURE", change, payment, is_done=is_done)

    def _fail_capture(self, change: Modification, payment: Held) -> None:
        if payment.refunded_minor or payment.refunding_minor:
            return  # what is refunded was captured
        payment.status, payment.captured_minor = "capture failed", 0
        self._item("CAPTURE_FAILED", payment, psp=change.id, original=payment.id, amount_minor=change.amount_minor)

    def _dispute(self, payment: Held) -> None:
        psp, amount_minor = self.new("DSP"), payment.captured_minor
        payment.disputed_minor = amount_minor
        self._item("CHARGEBACK", payment, psp=psp, original=payment.id, amount_minor=amount_minor)

        def end() -> None:
            is_won = self.chance.random() < 0.5
            payment.disputed_minor = 0 if is_won else amount_minor
            event = "CHARGEBACK_REVERSED" if is_won else "PREARBITRATION_LOST"
            self._item(event, payment, psp=psp, original=payment.id, amount_minor=amount_minor)

        self.later(LATER_S, end)

    def _refunded(self, change: Modification, payment: Held) -> None:
        payment.refunding_minor -= change.amount_minor
        is_done = payment.status == "captured" and not payment.disputed_minor and not self.declines()
        if is_done:
            payment.refunded_minor += change.amount_minor
            if self.reverses():
                self.later(LATER_S, lambda: self._fail_refund(change, payment))
        self._told("REFUND", change, payment, is_done=is_done)

    def _fail_refund(self, change: Modification, payment: Held) -> None:
        payment.refunded_minor -= change.amount_minor
        self._item("REFUND_FAILED", payment, psp=change.id, original=payment.id, amount_minor=change.amount_minor)

    def _told(self, code: str, change: Modification, payment: Held | None, *, is_done: bool) -> None:
        item: dict[str, Any] = {
            "eventCode": code, "success": "true" if is_done else "false", "pspReference": change.id,
            "merchantReference": change.reference,
            "amount": {"currency": "EUR" if payment is None else payment.currency, "value": change.amount_minor},
        }  # fmt: skip
        if payment is not None:
            item["originalReference"] = payment.id
            item["amount"]["value"] = change.amount_minor or payment.amount_minor
        self._send(item)

    def _item(
        self,
        code: str,
        payment: Held,
        *,
        psp: str,
        original: str | None = None,
        amount_minor: int | None = None,
        is_done: bool = True,
    ) -> None:
        item: dict[str, Any] = {
            "eventCode": code, "success": "true" if is_done else "false", "pspReference": psp,
            "merchantReference": str(payment.payment_id),
            "amount": {"currency": payment.currency, "value": amount_minor or payment.amount_minor},
        }  # fmt: skip
        self._send(item if original is None else {**item, "originalReference": original})

    def _send(self, item: Mapping[str, Any]) -> None:
        whole = {"merchantAccountCode": MERCHANT_ACCOUNT, "eventDate": self.schedule.now.isoformat(), **item}
        body = {"live": "false", "notificationItems": [{"NotificationRequestItem": whole}]}
        self.deliver(json.dumps(body).encode())
