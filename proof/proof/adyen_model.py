"""Adyen in the model: payments under keys that it keeps, modifications that are only received, and webhooks.

Only a webhook reports what a modification leads to, under its own reference or the payment's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from proof.gateway_books import AMOUNT_MINOR, CURRENCY, PAYMENT_ID, Arrival, Taken
from proof.gateway_calls import Answer, GatewayRequest

MERCHANT_ACCOUNT: Final = "Shop"
RESULTS = {"authorised": "Authorised", "refused": "Refused", "received": "Received"}
CODES = {
    "captures": "CAPTURE",
    "refunds": "REFUND",
    "cancels": "CANCELLATION",
    "technical": "TECHNICAL_CANCEL",
}


@dataclass(frozen=True, slots=True)
class AdyenPayment:
    """A payment: received, authorised, refused, canceled, captured, or its capture failed later."""

    state: str
    reference: str = str(PAYMENT_ID)


@dataclass(frozen=True, slots=True)
class Modification:
    """A request about a payment, which is None where it is named by our reference.

    ``state``: received, done, or refused.
    """

    kind: str
    payment: int | None
    reference: str
    state: str = "received"


@dataclass(frozen=True, slots=True)
class AdyenBooks:
    """What Adyen has. ``fails_later`` lets a capture fail after it succeeded, and succeed again."""

    payments: tuple[AdyenPayment, ...] = ()
    modifications: tuple[Modification, ...] = ()
    stored: frozenset[tuple[str, Answer]] = frozenset()
    events: frozenset[bytes] = frozenset()
    fails_later: bool = False
    names_payment: bool = False

    @property
    def taken(self) -> Taken:
        """What was taken of the payer."""
        states = [each.state for each in self.payments]
        return Taken(
            held=states.count("authorised"),
            captured=states.count("captured"),
            cancelled=states.count("canceled"),
            refunded=sum(each.kind == "refunds" and each.state == "done" for each in self.modifications),
            capture_failed=states.count("capture failed"),
        )

    def a_day_later(self) -> AdyenBooks:
        """Return it as it is: Adyen keeps its keys for a week, and by then the ladder has ended."""
        return self

    def refused_before(self) -> AdyenBooks:
        """Return it with a webhook of an older attempt at the same payment, which was refused."""
        item = {"eventCode": "AUTHORISATION", "success": "false", "pspReference": "OLDER"}
        return self._with_event({**item, "merchantReference": str(PAYMENT_ID)})

    def going_on(self) -> Iterator[tuple[str, AdyenBooks]]:
        """Yield what happens without a request."""
        for number, payment in enumerate(self.payments):
            if payment.state == "received":
                for state in ("authorised", "refused"):
                    yield f"Adyen decides: {state}", self._decided(number, state)
            if payment.state == "captured" and self.fails_later:
                after = self._become(number, "capture failed")
                yield "a capture fails later", after._told("CAPTURE_FAILED", _capture(after), number, is_done=True)
            if payment.state == "capture failed":
                after = self._become(number, "captured")
                told = after._told("CAPTURE", _capture(after), number, is_done=True, date="2026-02-02")
                yield "the capture succeeds after all", replace(told, fails_later=False)
        for number, each in enumerate(self.modifications):
            if each.state == "received":
                yield self._carried_out(number, each)

    def arriving(self, asked: GatewayRequest) -> Iterator[Arrival[AdyenBooks]]:
        """Yield what a request may lead to, and its answer."""
        assert asked.key is not None, "every request has a key"
        known = next((answer for key, answer in self.stored if key == asked.key), None)
        if known is not None:
            yield " (the answer is the stored one)", self, known
            if asked.path == "/payments":
                yield ": its key is in use", self, _refusal(422, "704")
            return
        for what, after, answer in self._executed(asked):
            yield what, replace(after, stored=after.stored | {(asked.key, answer)}), answer

    def _executed(self, asked: GatewayRequest) -> Iterator[Arrival[AdyenBooks]]:
        path = asked.path.split("/")[1:]
        if path == ["payments"]:
            number, reference = len(self.payments), asked.given["reference"]
            for state, code in RESULTS.items():
                made = replace(self, payments=(*self.payments, AdyenPayment(state, reference)))
                after = made if state == "received" else made._decided(number, state)
                body = {"resultCode": code, "pspReference": psp(number), "merchantReference": reference}
                yield f": {state}", after, Answer(200, json.dumps({**body, "amount": _amount()}))
            return
        kind, payment = ("technical", None) if path == ["cancels"] else (path[2], int(path[1].removeprefix("PSP")))
        change = Modification(kind, payment, asked.given["reference"])
        body = {"status": "received", "pspReference": f"MOD{len(self.modifications)}"}
        about: Mapping[str, Any] = {"paymentPspReference": path[1]} if payment is not None else {}
        after = replace(self, modifications=(*self.modifications, change))
        yield ": received", after, Answer(201, json.dumps({**body, **about}))

    def _carried_out(self, number: int, change: Modification) -> tuple[str, AdyenBooks]:
        target = (0 if self.payments else None) if change.payment is None else change.payment
        state = None if target is None else self.payments[target].state
        after, is_done = self, False
        if target is not None and change.kind in ("cancels", "technical"):
            is_done = state in ("authorised", "received", "canceled")
            after = self._become(target, "canceled") if is_done else self
        elif target is not None and change.kind == "captures" and state == "authorised":
            after, is_done = self._become(target, "captured"), True
        elif change.kind == "refunds":
            is_done = state == "captured"
        change = replace(change, state="done" if is_done else "refused")
        changes = (*after.modifications[:number], change, *after.modifications[number + 1 :])
        after = replace(after, modifications=changes)
        told = after._told(CODES[change.kind], number, target, is_done=is_done)
        return f"Adyen carries out {change.kind}: {change.state}", told

    def _decided(self, number: int, state: str) -> AdyenBooks:
        after = self._become(number, state)
        item = {"eventCode": "AUTHORISATION", "success": _text(state == "authorised"), "pspReference": psp(number)}
        return after._with_event({**item, "merchantReference": self.payments[number].reference})

    def _told(
        self, code: str, modification: int, payment: int | None, *, is_done: bool, date: str = "2026-01-01"
    ) -> AdyenBooks:
        of_payment = str(PAYMENT_ID) if payment is None else self.payments[payment].reference
        reference = of_payment if self.names_payment else self.modifications[modification].reference
        item: dict[str, Any] = {"eventCode": code, "success": _text(is_done), "pspReference": f"MOD{modification}"}
        item |= {"merchantReference": reference, "eventDate": date}
        return self._with_event(item if payment is None else {**item, "originalReference": psp(payment)})

    def _with_event(self, item: Mapping[str, Any]) -> AdyenBooks:
        full = {"merchantAccountCode": MERCHANT_ACCOUNT, "amount": _amount(), **item}
        body = json.dumps({"notificationItems": [{"NotificationRequestItem": full}]}, sort_keys=True)
        return replace(self, events=self.events | {body.encode()})

    def _become(self, number: int, state: str) -> AdyenBooks:
        payments = (*self.payments[:number], replace(self.payments[number], state=state), *self.payments[number + 1 :])
        return replace(self, payments=payments)


def psp(number: int) -> str:
    """Return the reference of a payment."""
    return f"PSP{number}"


def _capture(books: AdyenBooks) -> int:
    return next(number for number, each in enumerate(books.modifications) if each.kind == "captures")


def _amount() -> Mapping[str, Any]:
    return {"currency": CURRENCY, "value": AMOUNT_MINOR}


def _text(is_done: bool) -> str:
    return "true" if is_done else "false"


def _refusal(status: int, code: str) -> Answer:
    return Answer(status, json.dumps({"errorCode": code, "message": "No.", "status": status}))
