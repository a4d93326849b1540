"""Prompts on phones (STK push): there is no key, so two requests are two prompts; the answer is no outcome."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from uuid import uuid4

from simulators.daraja import c2b, fields
from simulators.daraja.dialect import FOUR_MEANINGS, LOCKED_TEXT, PROCESSING_TEXT, error, invalid
from simulators.daraja.results import Prompted, text_of
from simulators.face import Refused, Reply
from simulators.gateway_records import Happening
from simulators.mobile import books, callbacks, phones
from simulators.mobile.callbacks import Told
from simulators.mobile.face import Call
from simulators.mobile.faults import Kind, Subject, first, restored, stored
from simulators.mobile.records import MobileRecords
from simulators.mobile.tariffs import SHILLING
from simulators.mobile.times import compact, parsed
from simulators.records import Record

PROMPT = "prompt"
ANSWERED, PAID_LATE = "prompt_answered", "prompt_paid_late"
PAY_BILL = "CustomerPayBillOnline"
TYPES = (PAY_BILL, "CustomerBuyGoodsOnline")
SAME_AMOUNT_S = 120.0
"""The same amount to the same customer is refused for so long."""
UNANSWERED_S = 60.0
"""How long a prompt waits on a phone whose owner does not answer, unless the phone has another time."""
UNANSWERED = ("1037", "1019")
CLOCK_S_MAX = 3_600.0
"""By how much a timestamp may be off: less than the three hours between Nairobi and UTC."""


def subject(call: Call) -> Subject:
    """Return what faults can match: the caller's reference, the phone, the prompt."""
    others = (call.text("PhoneNumber"), call.text("CheckoutRequestID"))
    return Subject(operation="stk_push", reference=call.text("AccountReference"), others=others)


def query_subject(call: Call) -> Subject:
    """Return what faults can match of a query: the prompt, its reference and its phone."""
    prompt = call.records.find(PROMPT, call.text("CheckoutRequestID"))
    others = () if prompt is None else (prompt.reference, prompt.text("account_reference"))
    return Subject(operation="stk_query", reference=call.text("CheckoutRequestID"), others=others)


def checkout_of(reply: Reply) -> str:
    """Return what the callbacks of an acknowledged prompt are about."""
    return str(reply.body.get("CheckoutRequestID", ""))


def push(call: Call) -> Reply:
    """Queue a prompt. It runs inside a transaction."""
    short_code = _authorized(call)
    fields.choice(call, "TransactionType", TYPES)
    amount, msisdn = fields.whole(call), fields.phone(call, "PhoneNumber")
    if fields.phone(call, "PartyA") != msisdn:
        raise invalid("PartyA")
    fields.text(call, "PartyB", 5, 7)
    url, reference = fields.url(call, "CallBackURL"), fields.text(call, "AccountReference", 1, 12)
    fields.text(call, "TransactionDesc", 1, 13)
    own = [each for each in call.records.of_reference(PROMPT, msisdn) if each.fields["short_code"] == short_code]
    is_repeated = any(_is_same(each, amount, call.now) for each in own)
    if not is_repeated and any(each.state == "open" for each in own):
        raise Refused(error(500, FOUR_MEANINGS, LOCKED_TEXT))
    number = uuid4().int
    checkout = f"ws_CO_{compact(call.now)[6:8]}{compact(call.now)[4:6]}{compact(call.now)[:4]}{number % 10**12:012d}"
    phone = phones.find(call.records, msisdn)
    code, after_s, paid_after_s = _answer(call, phone, is_repeated=is_repeated)
    prompt = Record(
        kind=PROMPT, id=f"{checkout}{msisdn[3:]}", reference=msisdn, state="open",
        fields={
            "merchant_request": f"{number % 90_000 + 10_000}-{number // 90_000 % 10**8}-1", "short_code": short_code,
            "amount": amount, "account_reference": reference, "url": url, "accepted_at": call.now, "code": code,
            "paid_after_s": paid_after_s, "faults": stored(call.kept),
        },
    )  # fmt: skip
    call.records.add(prompt)
    call.records.schedule(ANSWERED, prompt.id, call.now + after_s)
    body = {
        "MerchantRequestID": prompt.fields["merchant_request"], "CheckoutRequestID": prompt.id, "ResponseCode": "0",
        "ResponseDescription": "Success. Request accepted for processing",
        "CustomerMessage": "Success. Request accepted for processing",
    }  # fmt: skip
    return Reply(status=200, body=body)


def _authorized(call: Call) -> str:
    """Return the short code of a request whose password is that of its timestamp. Raises Refused."""
    short_code, stamp = fields.own(call, "BusinessShortCode"), call.text("Timestamp")
    try:
        at = parsed(stamp, "%Y%m%d%H%M%S")
    except ValueError:
        raise invalid("Timestamp") from None
    if min(abs(at - call.real), abs(at - call.now)) > CLOCK_S_MAX:
        raise invalid("Timestamp")
    expected = base64.b64encode(f"{short_code}{call.short_code.passkey}{stamp}".encode()).decode()
    if call.text("Password") != expected:
        raise Refused(error(500, FOUR_MEANINGS, "Wrong credentials"))
    return short_code


def _is_same(prompt: Record, amount: int, now: float) -> bool:
    is_alive = prompt.state in ("open", "paid")
    since = now - float(str(prompt.fields["accepted_at"]))
    return is_alive and prompt.fields["amount"] == amount and since < SAME_AMOUNT_S


def _answer(call: Call, phone: phones.Phone, *, is_repeated: bool) -> tuple[str, float, float | None]:
    """Return the code that the phone will answer, after how long, and how much later it pays all the same."""
    if is_repeated:
        return "17", phones.ANSWER_S, None
    if call.text("TransactionType") == PAY_BILL and call.text("PartyB") != call.short_code.short_code:
        return "2028", phones.ANSWER_S, None
    is_text = isinstance(call.params["PhoneNumber"], str) or isinstance(call.params["PartyA"], str)
    if call.has(Kind.NUMBERS_ONLY) and is_text:
        return "1037", phones.ANSWER_S, None
    forced, late = first(call.faults, Kind.RESULT), first(call.faults, Kind.LATE_RESULT)
    code = phones.ANSWERS[phone.answer]
    after_s = phone.after_s
    if code in UNANSWERED and after_s == phones.ANSWER_S:
        after_s = UNANSWERED_S
    paid_after_s = phone.paid_after_s
    if forced is not None:
        code, after_s, paid_after_s = forced.code or "0", phones.ANSWER_S, forced.paid_after_s
    return code, after_s + (0.0 if late is None else late.delay_s), paid_after_s


def query(call: Call) -> Reply:
    """Return the code of a prompt that has ended: neither a receipt nor an amount."""
    _authorized(call)
    prompt = call.records.find(PROMPT, call.text("CheckoutRequestID"))
    if prompt is None or call.has(Kind.NOT_FOUND) or prompt.fields["short_code"] != call.short_code.short_code:
        raise invalid("CheckoutRequestID")
    if prompt.state == "open":
        raise Refused(error(500, FOUR_MEANINGS, PROCESSING_TEXT))
    code = prompt.text("code")
    return Reply(
        status=200,
        body={
            "ResponseCode": "0", "ResponseDescription": "The service request has been accepted successsfully",
            "MerchantRequestID": prompt.fields["merchant_request"], "CheckoutRequestID": prompt.id,
            "ResultCode": code, "ResultDesc": text_of(code),
        },
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What a phone's owner does with a prompt."""

    seed: int

    def answered(self, records: MobileRecords, due: Happening, now: float) -> None:
        """End a prompt as its phone answers: paid, or not, perhaps to be paid later all the same."""
        prompt = _prompt(records, due)
        code, later = prompt.text("code"), prompt.fields["paid_after_s"]
        if code == "0":
            self._pay(records, prompt, now)
            return
        self._end(records, prompt.become("ended"), code, now)
        if isinstance(later, float | int):
            records.schedule(PAID_LATE, prompt.id, now + later)

    def paid_late(self, records: MobileRecords, due: Happening, now: float) -> None:
        """Let the payer pay after the prompt has ended."""
        self._pay(records, _prompt(records, due), now)

    def _pay(self, records: MobileRecords, prompt: Record, now: float) -> None:
        wallet = books.wallet(records, prompt.reference, now)
        if records.balance(wallet) < prompt.amount("amount") * SHILLING:
            self._end(records, prompt.become("ended"), "1", now)
            return
        payment = c2b.Payment(
            short_code=prompt.text("short_code"), msisdn=prompt.reference, amount=prompt.amount("amount"),
            reference=prompt.text("account_reference"), begun_at=float(str(prompt.fields["accepted_at"])),
            checkout_request=prompt.id,
        )  # fmt: skip
        paid = c2b.pay_prompted(records, payment, now, self.seed)
        told = prompt.become("paid", code="0", receipt=paid.id)
        records.update(told)
        self._tell(records, told, Prompted(
            merchant_request=prompt.text("merchant_request"), checkout_request=prompt.id, code="0",
            amount=prompt.amount("amount"), receipt=paid.id, completed=compact(now), msisdn=prompt.reference,
        ), now)  # fmt: skip

    def _end(self, records: MobileRecords, prompt: Record, code: str, now: float) -> None:
        ended = prompt.become("ended", code=code)
        records.update(ended)
        merchant_request = prompt.text("merchant_request")
        self._tell(
            records, ended, Prompted(merchant_request=merchant_request, checkout_request=prompt.id, code=code), now
        )

    def _tell(self, records: MobileRecords, prompt: Record, prompted: Prompted, now: float) -> None:
        others = (prompt.reference, prompt.id, prompted.receipt)
        subject = Subject(operation="stk_push", reference=prompt.text("account_reference"), others=others)
        told = Told(
            url=prompt.text("url"), about=prompt.id, subject=subject, shape=prompted.body,
            own=restored(prompt.fields["faults"]),
        )  # fmt: skip
        callbacks.tell(records, told, now=now, seed=self.seed)


def _prompt(records: MobileRecords, due: Happening) -> Record:
    prompt = records.find(PROMPT, due.subject)
    assert prompt is not None, "prompts are never deleted"
    return prompt
