"""The intents and refunds of a Stripe for tests: states, idempotency keys and stored answers, as its documents say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from support.gateway_stub import Answer, Got

DECLINING = "pm_card_visa_chargeDeclined"
CAPTURE_BEFORE = 1_767_830_400


@dataclass
class StripeBooks:
    """Answers as Stripe does. ``fails`` are stored 500s by path suffix: before the effect, or after it."""

    intents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refunds: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: dict[str, Answer] = field(default_factory=dict)
    fails_before: list[str] = field(default_factory=list)
    fails_after: list[str] = field(default_factory=list)
    refund_status: str = "succeeded"
    prefix: str = ""

    def answer(self, got: Got) -> Answer:
        if got.headers.get("authorization") != "Bearer sk_test_1":
            return _error(401, "invalid_request_error", "", "no key")
        if got.method == "POST" and got.key in self.stored:
            known = self.stored[got.key]
            return Answer(status=known.status, body=known.body, headers={"Idempotent-Replayed": "true"})
        answer = self._answer(got)
        if got.method == "POST" and got.key is not None:
            self.stored[got.key] = answer
        return answer

    def _answer(self, got: Got) -> Answer:
        what = urlsplit(got.path).path.split("/")
        verb = what[-1] if got.method == "POST" else "get"
        if verb in self.fails_before:
            self.fails_before.remove(verb)
            return Answer(status=500, body={"error": {"type": "api_error", "message": "ours"}})
        answer = self._do(got, what)
        if verb in self.fails_after:
            self.fails_after.remove(verb)
            return Answer(status=500, body={"error": {"type": "api_error", "message": "ours"}})
        return answer

    def _do(self, got: Got, what: list[str]) -> Answer:
        form = got.form
        match [got.method, *what[2:]]:
            case ["POST", "payment_intents"]:
                found = f"pi_{self.prefix}{len(self.intents) + 1}"
                self.intents[found] = {
                    "id": found, "object": "payment_intent", "status": "requires_confirmation",
                    "amount": int(form["amount"]), "amount_capturable": 0, "amount_received": 0,
                    "currency": form["currency"], "metadata": _metadata(form), "token": form["payment_method"],
                    "cancellation_reason": None, "last_payment_error": None, "latest_charge": None,
                }  # fmt: skip
                return Answer(body=dict(self.intents[found]))
            case ["GET", "payment_intents", found]:
                return Answer(body=dict(self.intents[found]))
            case ["POST", "payment_intents", found, verb]:
                return self._change(self.intents[found], verb, form)
            case ["POST", "refunds"]:
                return self._refund(form)
            case ["GET", "refunds", found]:
                return Answer(body=dict(self.refunds[found]))
            case ["GET", "refunds"]:
                return Answer(body={"object": "list", "data": [dict(each) for each in self.refunds.values()]})
            case _:
                return _error(404, "invalid_request_error", "resource_missing", got.path)

    def _change(self, intent: dict[str, Any], verb: str, form: dict[str, str]) -> Answer:
        status = intent["status"]
        if verb == "confirm" and status == "requires_confirmation":
            if intent["token"] == DECLINING:
                intent["status"] = "requires_payment_method"
                error = {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds"}
                intent["last_payment_error"] = error
                return Answer(status=402, body={"error": {**error, "payment_intent": dict(intent)}})
            card = {"card": {"capture_before": CAPTURE_BEFORE}}
            charge = {"id": f"ch_{intent['id']}", "payment_method_details": card}
            intent |= {"status": "requires_capture", "amount_capturable": intent["amount"], "latest_charge": charge}
            return Answer(body=dict(intent))
        if verb == "capture" and status == "requires_capture":
            amount = int(form.get("amount_to_capture", intent["amount"]))
            if amount > intent["amount"]:
                return _error(400, "invalid_request_error", "amount_too_large", "more than is authorized")
            intent["metadata"] |= _metadata(form)
            intent |= {"status": "succeeded", "amount_received": amount, "amount_capturable": 0}
            return Answer(body=dict(intent))
        if verb == "cancel" and status not in ("succeeded", "canceled"):
            intent |= {"status": "canceled", "cancellation_reason": form.get("cancellation_reason")}
            return Answer(body=dict(intent))
        return _error(400, "invalid_request_error", "payment_intent_unexpected_state", f"it is {status}")

    def _refund(self, form: dict[str, str]) -> Answer:
        intent = self.intents[form["payment_intent"]]
        taken = sum(each["amount"] for each in self.refunds.values() if each["payment_intent"] == intent["id"])
        if taken + int(form["amount"]) > intent["amount_received"]:
            return _error(400, "invalid_request_error", "charge_already_refunded", "more than was captured")
        found = f"re_{self.prefix}{len(self.refunds) + 1}"
        self.refunds[found] = {
            "id": found, "object": "refund", "status": self.refund_status, "amount": int(form["amount"]),
            "currency": intent["currency"], "payment_intent": intent["id"], "metadata": _metadata(form),
        }  # fmt: skip
        return Answer(body=dict(self.refunds[found]))


def _metadata(form: dict[str, str]) -> dict[str, str]:
    return {name[9:-1]: value for name, value in form.items() if name.startswith("metadata[")}


def _error(status: int, kind: str, code: str, text: str) -> Answer:
    return Answer(status=status, body={"error": {"type": kind, "code": code, "message": text}})
