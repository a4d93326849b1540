"""Payments to a short code: registration of URLs, validation where it is enabled, and confirmation."""

from __future__ import annotations

import json
from dataclasses import dataclass

from simulators.daraja import fields
from simulators.daraja.dialect import REGISTERED, error
from simulators.face import Refused, Reply
from simulators.gateway_records import Happening
from simulators.mobile import books, callbacks, phones
from simulators.mobile.callbacks import Told
from simulators.mobile.face import Call
from simulators.mobile.faults import Fault, Kind, Subject, first, restored, stored
from simulators.mobile.records import MobileRecords
from simulators.mobile.statements import plain
from simulators.mobile.tariffs import SHILLING
from simulators.mobile.times import compact
from simulators.records import JsonObject, Record

PAYMENT, C2B = "payment", "c2b"
VALIDATED = "validated"
RESPONSE_TYPES = ("Completed", "Cancelled")
ACCEPTED = "0"


def subject(call: Call) -> Subject:
    """Return what faults can match."""
    return Subject(operation="register_url", reference=call.text("ShortCode"))


def register_hashed(call: Call) -> Reply:
    """Register URLs that get a hash of the payer's number."""
    return _register(call, is_hashed=True)


def register_masked(call: Call) -> Reply:
    """Register URLs that get a masked number."""
    return _register(call, is_hashed=False)


def _register(call: Call, *, is_hashed: bool) -> Reply:
    short_code = fields.own(call, "ShortCode")
    registration = {
        "response_type": fields.choice(call, "ResponseType", RESPONSE_TYPES),
        "confirmation_url": fields.url(call, "ConfirmationURL", is_registered=True),
        "validation_url": fields.url(call, "ValidationURL", is_registered=True),
        "is_hashed": is_hashed,
    }
    if call.records.kept_under(urls_of(short_code)) is not None:
        raise Refused(error(500, REGISTERED, "Urls are already registered"))
    call.records.keep_under(urls_of(short_code), {**registration})
    return Reply(
        status=200,
        body={"OriginatorCoversationID": f"{call.real:.0f}-1", "ResponseCode": "0", "ResponseDescription": "success"},
    )


def urls_of(short_code: str) -> str:
    """Return the name under which a registration is kept."""
    return f"urls {short_code}"


def validation_of(short_code: str) -> str:
    """Return the name under which it is kept that validation is enabled."""
    return f"validation {short_code}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What a customer pays, in shillings, and what the customer typed."""

    short_code: str
    msisdn: str
    amount: int
    reference: str
    begun_at: float
    faults: tuple[Fault, ...] = ()
    checkout_request: str = ""


def _new(records: MobileRecords, payment: Payment, now: float) -> Record:
    record = Record(
        kind=PAYMENT, id=books.new_receipt(records, now), reference=payment.msisdn, state="pending",
        fields={
            "short_code": payment.short_code, "amount": payment.amount, "bill_reference": payment.reference,
            "begun_at": payment.begun_at, "faults": stored(payment.faults), "third_party": "",
            "checkout_request": payment.checkout_request,
        },
    )  # fmt: skip
    records.add(record)
    return record


def pay_prompted(records: MobileRecords, payment: Payment, now: float, seed: int) -> Record:
    """Enter what was paid at a prompt, which nothing validates. Raises TooLittle. It runs inside a transaction."""
    return complete(records, _new(records, payment, now), now, seed)


def begin(records: MobileRecords, payment: Payment, now: float, seed: int) -> Record:
    """Let a customer pay; a listener that is enabled validates first. Raises TooLittle. It runs in a transaction."""
    record = _new(records, payment, now)
    registration = records.kept_under(urls_of(payment.short_code))
    if registration is not None and records.kept_under(validation_of(payment.short_code)) is not None:
        wallet = books.wallet(records, payment.msisdn, now)
        if records.balance(wallet) < payment.amount * SHILLING:
            raise books.TooLittle(wallet)
        url = str(registration["validation_url"])
        _tell(records, record, url, now, seed, following=VALIDATED)
        return record
    return complete(records, record, now, seed)


def complete(records: MobileRecords, record: Record, now: float, seed: int) -> Record:
    """Enter a payment and confirm it. Raises TooLittle. It runs inside a transaction."""
    short_code, msisdn = record.text("short_code"), record.reference
    name = phones.name_of(records, msisdn).whole
    paid = books.Transfer(
        kind=books.PAY_IN, source=books.wallet(records, msisdn, now), amount_minor=record.amount("amount") * SHILLING,
        target=books.account(short_code, books.UTILITY),
        details={
            "party": f"{phones.masked(msisdn)} - {name}", "msisdn": msisdn, "reference": record.text("bill_reference"),
            "about": f"from {phones.masked(msisdn)} - {name} Acc. {record.text('bill_reference')}",
            "begun_at": record.fields["begun_at"], "checkout_request": record.text("checkout_request"),
        },
    )  # fmt: skip
    books.enter(records, paid, now, receipt=record.id)
    completed = record.become("completed", ended_at=now)
    records.update(completed)
    registration = records.kept_under(urls_of(short_code))
    if registration is not None:
        _tell(records, completed, str(registration["confirmation_url"]), now, seed)
    return completed


def _tell(
    records: MobileRecords, record: Record, url: str, now: float, seed: int, *, following: str = ""
) -> None:  # fmt: skip
    others = (record.reference, record.text("bill_reference"), record.text("checkout_request"))
    told = Told(
        url=url, about=record.id, subject=Subject(operation=C2B, reference=record.id, others=others),
        shape=lambda faults: _body(records, record, faults, now), own=restored(record.fields["faults"]),
        following=following,
    )  # fmt: skip
    callbacks.tell(records, told, now=now, seed=seed)


def _body(records: MobileRecords, record: Record, faults: tuple[Fault, ...], now: float) -> JsonObject:
    """Return a confirmation, or a validation, which has no balance yet."""
    short_code, msisdn = record.text("short_code"), record.reference
    registration = records.kept_under(urls_of(short_code)) or {}
    is_masked = first(faults, Kind.MASKED) is not None or not registration.get("is_hashed")
    name = phones.name_of(records, msisdn)
    is_confirmed = record.state == "completed"
    balance = plain(records.balance(books.account(short_code, books.UTILITY))) if is_confirmed else ""
    body: JsonObject = {
        "TransactionType": "Pay Bill", "TransID": record.id, "TransTime": compact(now),
        "TransAmount": f"{record.amount('amount')}.00", "BusinessShortCode": short_code,
        "BillRefNumber": record.text("bill_reference"), "InvoiceNumber": "", "OrgAccountBalance": balance,
        "ThirdPartyTransID": record.text("third_party"),
        "MSISDN": phones.masked(msisdn) if is_masked else phones.hashed(msisdn),
        "FirstName": name.first, "MiddleName": name.middle, "LastName": name.last,
    }  # fmt: skip
    if first(faults, Kind.NO_PHONE) is not None:
        del body["MSISDN"]
    return dict(reversed(body.items())) if first(faults, Kind.REORDERED) is not None else body


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What happens after a validation."""

    seed: int

    def validated(self, records: MobileRecords, due: Happening, now: float) -> None:
        """Complete or cancel a payment as the listener answered, or as its registration has it without an answer."""
        record = records.find(PAYMENT, due.subject)
        if record is None or record.state != "pending":
            return
        registration = records.kept_under(urls_of(record.text("short_code"))) or {}
        answer = _answer(due)
        code = "" if answer is None else str(answer.get("ResultCode", ""))
        is_accepted = code == ACCEPTED if answer is not None else registration.get("response_type") == "Completed"
        if not is_accepted:
            records.update(record.become("cancelled", code=code, ended_at=now))
            return
        third_party = "" if answer is None else str(answer.get("ThirdPartyTransID") or "")
        try:
            complete(records, record.become(record.state, third_party=third_party), now, self.seed)
        except books.TooLittle:
            records.update(record.become("cancelled", code="1", ended_at=now))


def _answer(due: Happening) -> JsonObject | None:
    """Return what the listener answered, None for nothing that can be read."""
    status = due.details["status"]
    if not isinstance(status, int) or not 200 <= status < 300:
        return None
    try:
        parsed = json.loads(str(due.details["text"]))
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
