"""Daraja in a schedule: its own books, phones that answer, and callbacks that are late, doubled, lost or contradicted.

The real adapter calls it as it calls the provider over HTTP. No service of ours writes its books: the checks compare
the ledger with them, and a statement is made of them.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from chassis.http.downstream import Response, Unavailable
from mobile_money import daraja_bodies, http_daraja
from mobile_money.readings import NAIROBI
from proof.schedule import Schedule
from proof.simulated_accounts import KeyMisused

PENDING, PAID, FAILED = "PENDING", "PAID", "FAILED"
QUEUED_RATES = (0.1, 0.5)
"""How often a payout waits in a queue of the provider, in a schedule."""
LOST_RATES = (0.0, 0.3, 0.9)
"""How often a callback is lost for good, in a schedule."""
CALLBACK_S, LATE_S = 0.5, 2 * 86_400.0
SLOW_S, QUEUED_S = 5.0, 20 * 3_600.0
"""How long a payout takes, at once or after it has waited in a queue; longer than a day it never waits."""
PHONE_S, PAID_LATE_S = 60.0, 6 * 3_600.0
CONTRADICTED_S = 2 * 3_600.0
REFUSED_BY_MEMBER, OUR_FAULT, CANCELLED_BY_PAYER, NOT_REACHED = "2040", "2001", "1032", "1037"
NOT_KNOWN = "2032"
DUPLICATE = {"requestId": "r", "errorCode": "500.002.1001", "errorMessage": "Duplicate OriginatorConversationID."}
BUSY = {"requestId": "r", "errorCode": "500.003.02", "errorMessage": "Spike arrest violation."}
INVALID = {"requestId": "r", "errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid InitiatorName."}
IN_PROCESS = {"requestId": "r", "errorCode": "500.001.1001", "errorMessage": "The transaction is being processed."}
FUNDS_MINOR = 100_000_000
"""What is on the account in the beginning."""
COLUMNS = "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Other Party Info,A/C No."


@dataclass(slots=True, kw_only=True)
class SimulatedPayout:
    """A payout in the provider's books, by our id of its attempt."""

    own_id: str
    conversation: str
    phone: str
    amount_minor: int
    state: str = PENDING
    code: str = ""
    receipt: str = ""
    completed_at: datetime | None = None
    was_failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A payment that came in."""

    receipt: str
    phone: str
    amount_minor: int
    reference: str
    completed_at: datetime


@dataclass(slots=True, kw_only=True)
class SimulatedPrompt:
    """A prompt of a phone; ``code`` is empty while the phone has not answered."""

    id: str
    phone: str
    amount_minor: int
    reference: str
    code: str = ""


@dataclass(slots=True, kw_only=True)
class SimulatedAccount:
    """The account of one short code: its statement, and what happens to it by itself. ``send`` takes its callbacks.

    ``on_change`` precedes what happens by itself.
    """

    short_code: str
    schedule: Schedule
    send: Callable[[str, bytes, str], None]
    on_change: Callable[[], None]
    on_fault: Callable[[], None]
    on_payment: Callable[[], None]
    payouts: dict[str, SimulatedPayout] = field(default_factory=dict)
    payments: list[Incoming] = field(default_factory=list)
    prompts: dict[str, SimulatedPrompt] = field(default_factory=dict)
    rows: list[tuple[datetime, str]] = field(default_factory=list)
    balance_minor: int = FUNDS_MINOR
    requests: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(init=False)
    contradicts: bool = field(init=False)
    is_pulled: bool = field(init=False)
    _lost_rate: float = field(init=False)
    _queued_rate: float = field(init=False)
    _count: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(f"daraja {self.schedule.seed}")
        self.contradicts = self.chance.random() < 0.15
        self.is_pulled = self.chance.random() < 0.8
        self._lost_rate = self.chance.choice(LOST_RATES)
        self._queued_rate = self.chance.choice(QUEUED_RATES)

    def statement(self, *, omits: bool) -> bytes:
        """Return the statement of the account from the beginning until now; ``omits`` one row of it."""
        lines = [line for _, line in self.rows]
        if omits and len(lines) > 2:
            del lines[self.chance.randrange(1, len(lines) - 1)]
        return "\n".join([COLUMNS, *lines, ""]).encode()

    def paid_out(self) -> Iterator[SimulatedPayout]:
        """Yield the payouts that were paid."""
        return (each for each in self.payouts.values() if each.state == PAID)

    def _add_row(self, receipt: str, details: str, amount_minor: int, phone: str, reference: str) -> None:
        self.balance_minor += amount_minor
        shillings = f"{abs(amount_minor) // 100}.00"
        paid_in, withdrawn = (shillings, "") if amount_minor > 0 else ("", f"-{shillings}")
        at, balance = _shown(self.schedule.now, "%Y-%m-%d %H:%M:%S"), f"{self.balance_minor // 100}.00"
        cells = (receipt, at, details, "Completed", paid_in, withdrawn, balance, f"{phone} - A Member", reference)
        self.rows.append((self.schedule.now, ",".join(cells)))

    def _later(self, seconds: float, change: Callable[[], None]) -> None:
        def happen() -> None:
            self.on_change()
            change()

        self.schedule.at(self.schedule.now + timedelta(seconds=seconds * self.chance.random()), happen)

    def _call_back(self, kind: str, body: Mapping[str, object], *, lost_rate: float | None = None) -> None:
        """Send a callback: never, once or twice, at once or days later. It is never sent again."""
        schedule = self.schedule
        if self.chance.random() < (self._lost_rate if lost_rate is None else lost_rate):
            schedule.faults["a callback is lost"] += 1
            return
        content = json.dumps(body).encode()
        for number in range(2 if self.chance.random() < 0.2 else 1):
            is_late = self.chance.random() < 0.15
            schedule.faults["a callback is late"] += is_late
            schedule.faults["a callback is doubled"] += number
            seconds = self.chance.random() * (LATE_S if is_late else CALLBACK_S)
            schedule.at(schedule.now + timedelta(seconds=seconds), lambda: self.send(kind, content, "10.0.0.1"))

    def _new(self, prefix: str, *, width: int = 1) -> str:
        self._count += 1
        return f"{prefix}{self._count:0{width}d}"


@dataclass(slots=True, kw_only=True)
class SimulatedDaraja(SimulatedAccount):
    """What the provider does with the account, by request and by members at their phones.

    ``on_fault`` follows a payout that failed by our fault. ``contradicts``: what it reported as failed it may pay.
    """

    # What the adapter calls

    def request(
        self, method: str, path: str, *, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Response:
        """Answer as ``chassis.http.downstream.Downstream`` does. Raises Unavailable, and KeyMisused."""
        asked, schedule = body or {}, self.schedule
        self.requests[path] += 1
        if schedule.strikes("Daraja refuses for too many requests", 0.03):
            return self._answer(BUSY, status=500)
        answer = self._execute(path, asked)
        if schedule.strikes("Daraja answers 500", 0.08):
            raise Unavailable("answered 500")
        return answer

    def _execute(self, path: str, asked: Mapping[str, Any]) -> Response:
        match path:
            case http_daraja.B2C:
                return self._pay(asked)
            case http_daraja.PUSH:
                return self._push(asked)
            case http_daraja.PUSH_QUERY:
                return self._push_state(asked)
            case http_daraja.STATUS:
                return self._status(asked)
            case http_daraja.PULL:
                return self._list(asked)
        raise AssertionError(f"{path} is not called in a schedule")

    def _answer(self, body: Mapping[str, object], *, status: int = 200) -> Response:
        return Response(dependency="daraja", status=status, body=body)

    def _accept(self, conversation: str) -> Response:
        return self._answer({"ResponseCode": "0", "ConversationID": conversation, "ResponseDescription": "Accepted"})

    # Payouts

    def _pay(self, asked: Mapping[str, Any]) -> Response:
        own_id, phone = str(asked["OriginatorConversationID"]), str(asked["PartyB"])
        amount_minor = int(asked["Amount"]) * 100
        known = self.payouts.get(own_id)
        self.schedule.note(f"Daraja receives a payout of {amount_minor} under {own_id}")
        if known is not None:
            if (known.phone, known.amount_minor) != (phone, amount_minor):
                raise KeyMisused(f"{own_id} was of {known}, then of {amount_minor} to {phone}.")
            return self._answer(DUPLICATE, status=500)
        if self.schedule.strikes("Daraja refuses a request by our fault", 0.03):
            self.on_fault()
            return self._answer(INVALID, status=400)
        payout = SimulatedPayout(
            own_id=own_id, conversation=self._new("AG_20260101_", width=8), phone=phone, amount_minor=amount_minor
        )  # fmt: skip
        self.payouts[own_id] = payout
        waits_s = QUEUED_S if self.chance.random() < self._queued_rate else SLOW_S
        if waits_s == QUEUED_S and self.chance.random() < 0.7:
            self._call_back("b2c-timeout", {"OriginatorConversationID": own_id, "ConversationID": payout.conversation})
        self._later(waits_s, lambda: self._decide(payout))
        return self._accept(payout.conversation)

    def _decide(self, payout: SimulatedPayout) -> None:
        """Pay, or fail. Where it contradicts itself, it pays later what it has reported as failed."""
        draw = self.chance.random()
        if draw < 0.7:
            self._settle(payout)
            return
        by_us = self.schedule.are_faults_on and draw > 0.95
        payout.state, payout.code, payout.was_failed = FAILED, OUR_FAULT if by_us else REFUSED_BY_MEMBER, True
        self._result(payout)
        if by_us:
            self.on_fault()
        if self.contradicts and self.chance.random() < 0.5:
            self._later(CONTRADICTED_S, lambda: self._settle(payout))

    def _settle(self, payout: SimulatedPayout) -> None:
        payout.state, payout.code, payout.receipt = PAID, "0", self._new("S", width=9)
        payout.completed_at = self.schedule.now
        self.schedule.note(f"Daraja pays {payout.amount_minor} under {payout.own_id} as {payout.receipt}")
        names = f"{payout.own_id} {payout.conversation}" if self.chance.random() < 0.5 else payout.conversation
        self._add_row(payout.receipt, f"Business Payment to Customer {names}", -payout.amount_minor, payout.phone, "")
        self._result(payout)

    def _result(self, payout: SimulatedPayout) -> None:
        values: dict[str, object] = {}
        if payout.state == PAID:
            values = {
                "TransactionReceipt": payout.receipt,
                "TransactionAmount": payout.amount_minor // 100,
                "TransactionCompletedDateTime": _shown(payout.completed_at, "%d.%m.%Y %H:%M:%S"),
                "ReceiverPartyPublicName": f"{payout.phone} - A Member",
                "B2CUtilityAccountAvailableFunds": self.balance_minor / 100,
            }
        result = {
            "ResultCode": int(payout.code),
            "ResultDesc": "a text",
            "OriginatorConversationID": payout.own_id,
            "ConversationID": payout.conversation,
            "TransactionID": payout.receipt or self._new("F", width=9),
            "ResultParameters": {"ResultParameter": _pairs(values, "Key")},
        }
        self._call_back("b2c", {"Result": result})

    # Queries

    def _status(self, asked: Mapping[str, Any]) -> Response:
        """Take a query, whose answer comes by callback. What waits in a queue may not be found."""
        question = self._new("AG_20260101_", width=8)
        own_id, receipt = asked.get("OriginalConversationID"), asked.get("TransactionID")
        values: dict[str, object] | None
        if own_id is not None:
            values = self._state_of(self.payouts.get(str(own_id)))
        else:
            found = next((each for each in self.payments if each.receipt == receipt), None)
            values = None if found is None else _completed(found.receipt, found.amount_minor, found.completed_at)
        result: dict[str, object] = {"ResultCode": NOT_KNOWN if values is None else 0, "ResultDesc": "a text"}
        if values is not None:
            result["ResultParameters"] = {"ResultParameter": _pairs(values, "Key")}
        self._call_back("status", {"Result": {**result, "ConversationID": question}})
        return self._accept(question)

    def _state_of(self, payout: SimulatedPayout | None) -> dict[str, object] | None:
        if payout is None or (payout.state == PENDING and self.chance.random() < 0.5):
            return None
        if payout.state == PAID and payout.completed_at is not None:
            return _completed(payout.receipt, payout.amount_minor, payout.completed_at)
        if payout.state == FAILED:
            self.on_fault()  # the answer does not say whose fault it was
        return {"TransactionStatus": "Initiated" if payout.state == PENDING else "Failed"}

    def _list(self, asked: Mapping[str, Any]) -> Response:
        """List payments of a time, as a pull does: 48 hours back at most."""
        if not self.is_pulled:
            raise Unavailable("answered 503")
        begins, ends = (
            datetime.strptime(str(asked[name]), "%Y-%m-%d %H:%M:%S").replace(tzinfo=NAIROBI)
            for name in ("StartDate", "EndDate")
        )
        ends += timedelta(seconds=1)
        found = [each for each in self.payments if begins <= each.completed_at < ends][int(asked["OffSetValue"]) :]
        if not found:
            return self._answer({"ResponseCode": "1001", "Response": []})
        listed = [
            {
                "transactionId": each.receipt,
                "trxDate": _shown(each.completed_at, "%Y-%m-%d %H:%M:%S"),
                "msisdn": each.phone,
                "amount": str(each.amount_minor // 100),
                "billreference": each.reference,
            }
            for each in found
        ]
        return self._answer({"ResponseCode": "1000", "Response": [listed]})

    # Phones

    def pay(self, phone: str, amount_minor: int, reference: str, *, is_confirmed: bool = False) -> None:
        """Let a phone pay to the short code; what comes of it is a confirmation, a row, and nothing else.

        ``is_confirmed``: the confirmation is not lost.
        """
        paid = self._take(phone, amount_minor, reference)
        body = {
            "TransID": paid.receipt,
            "TransAmount": f"{amount_minor // 100}.00",
            "TransTime": _shown(paid.completed_at, "%Y%m%d%H%M%S"),
            "BusinessShortCode": self.short_code,
            "BillRefNumber": reference,
            "MSISDN": phone,
        }
        self._call_back(daraja_bodies.CONFIRMATION, body, lost_rate=0.0 if is_confirmed else self._lost_rate)

    def forge(self, reference: str) -> None:
        """Send a confirmation of a payment that no one made, from a foreign address."""
        body = {
            "TransID": self._new("X", width=9), "TransAmount": "900.00",
            "TransTime": _shown(self.schedule.now, "%Y%m%d%H%M%S"), "BusinessShortCode": self.short_code,
            "BillRefNumber": reference, "MSISDN": "254700000009",
        }  # fmt: skip
        self.schedule.faults["a callback is forged"] += 1
        self.send(daraja_bodies.CONFIRMATION, json.dumps(body).encode(), "10.9.9.9")

    def _take(self, phone: str, amount_minor: int, reference: str) -> Incoming:
        at = self.schedule.now
        paid = Incoming(
            receipt=self._new("R", width=9), phone=phone, amount_minor=amount_minor, reference=reference,
            completed_at=at,
        )  # fmt: skip
        self.payments.append(paid)
        self.schedule.note(f"{phone} pays {amount_minor} for {reference!r} as {paid.receipt}")
        self._add_row(paid.receipt, f"Pay Bill from {phone}", amount_minor, phone, reference)
        self.on_payment()
        return paid

    def _push(self, asked: Mapping[str, Any]) -> Response:
        prompt = SimulatedPrompt(
            id=self._new("ws_CO_"), phone=str(asked["PhoneNumber"]), amount_minor=int(asked["Amount"]) * 100,
            reference=str(asked["AccountReference"]),
        )  # fmt: skip
        self.prompts[prompt.id] = prompt
        self._later(PHONE_S, lambda: self._answer_phone(prompt))
        return self._answer({"ResponseCode": "0", "CheckoutRequestID": prompt.id, "MerchantRequestID": "m"})

    def _answer_phone(self, prompt: SimulatedPrompt) -> None:
        prompt.code = self.chance.choice(("0", "0", "0", CANCELLED_BY_PAYER, OUR_FAULT, NOT_REACHED))
        if prompt.code == "0":
            self._pay_prompt(prompt)
            return
        self._call_back("stk", _stk(prompt.id, prompt.code))
        if self.chance.random() < 0.3:  # the PIN arrives after the prompt has ended
            self._later(PAID_LATE_S, lambda: self._pay_prompt(prompt))

    def _pay_prompt(self, prompt: SimulatedPrompt) -> None:
        prompt.code = "0"
        paid = self._take(prompt.phone, prompt.amount_minor, prompt.reference)
        values = {
            "Amount": paid.amount_minor // 100,
            "MpesaReceiptNumber": paid.receipt,
            "TransactionDate": int(_shown(paid.completed_at, "%Y%m%d%H%M%S")),
            "PhoneNumber": int(paid.phone),
        }
        self._call_back("stk", _stk(prompt.id, "0", {"Item": _pairs(values, "Name")}))

    def _push_state(self, asked: Mapping[str, Any]) -> Response:
        prompt = self.prompts[str(asked["CheckoutRequestID"])]
        if not prompt.code:
            return self._answer(IN_PROCESS, status=500)
        return self._answer({"ResponseCode": "0", "ResultCode": prompt.code, "ResultDesc": "a text"})


def _completed(receipt: str, amount_minor: int, at: datetime) -> dict[str, object]:
    return {
        "TransactionStatus": "Completed",
        "ReceiptNo": receipt,
        "Amount": amount_minor // 100,
        "FinalisedTime": _shown(at, "%Y%m%d%H%M%S"),
    }


def _stk(prompt_id: str, code: str, metadata: Mapping[str, object] | None = None) -> dict[str, object]:
    callback: dict[str, object] = {"CheckoutRequestID": prompt_id, "ResultCode": int(code), "ResultDesc": "a text"}
    if metadata is not None:
        callback["CallbackMetadata"] = metadata
    return {"Body": {"stkCallback": callback}}


def _pairs(values: Mapping[str, object], name: str) -> list[dict[str, object]]:
    return [{name: key, "Value": value} for key, value in values.items()]


def _shown(at: datetime | None, form: str) -> str:
    assert at is not None, "it is completed"
    return at.astimezone(NAIROBI).strftime(form)
