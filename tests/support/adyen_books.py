"""The payments and modifications of an Adyen for tests: stored answers by key; what comes later is ``received``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from support.gateway_stub import Answer, Got

DECLINING = "declines"


@dataclass
class AdyenBooks:
    """Answers as Adyen does. ``results`` are resultCodes of payments by token."""

    payments: dict[str, dict[str, Any]] = field(default_factory=dict)
    modifications: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    stored: dict[str, Answer] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    prefix: str = ""

    def answer(self, got: Got) -> Answer:
        if got.headers.get("x-api-key") != "AQE1":
            return Answer(status=401, body={"status": 401, "errorCode": "000", "message": "no key"})
        assert got.key is not None
        if got.key not in self.stored:
            self.stored[got.key] = self._answer(got)
        return self.stored[got.key]

    def _answer(self, got: Got) -> Answer:
        body, what = got.body, got.line.removeprefix("POST /v72/").split("/")
        psp = f"PSP{self.prefix}{len(self.stored) + 1}"
        if what == ["payments"]:
            token = body["paymentMethod"]["storedPaymentMethodId"]
            result = self.results.get(token, "Authorised")
            self.payments[psp] = {**body, "resultCode": result}
            answer = {"pspReference": psp, "resultCode": result, "merchantReference": body["reference"]}
            if result == "Refused":
                answer |= {"refusalReason": "Not enough balance", "refusalReasonCode": "12"}
            return Answer(body={**answer, "amount": body["amount"]})
        original = body.get("paymentReference") or what[1]
        self.modifications.append((what[-1], psp, body))
        answer = {"merchantAccount": body["merchantAccount"], "pspReference": psp, "status": "received"}
        name = "paymentReference" if "paymentReference" in body else "paymentPspReference"
        amount = {"amount": body["amount"]} if "amount" in body else {}
        return Answer(status=201, body={**answer, **amount, name: original, "reference": body.get("reference")})
