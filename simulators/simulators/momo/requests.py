"""What MoMo is requested to do: collect, transfer, refund. The caller's reference is the key: a repeat is a 409.

A request is taken with 202 and has no answer but its status, which a GET returns, and a callback that comes once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

from simulators.face import Refused, Reply
from simulators.gateway_records import Happening
from simulators.mobile import books, callbacks, phones
from simulators.mobile.callbacks import Told
from simulators.mobile.face import Call
from simulators.mobile.faults import Fault, Kind, Subject, first, restored, stored
from simulators.mobile.records import MobileRecords
from simulators.mobile.statements import plain
from simulators.mobile.tariffs import SHILLING
from simulators.momo.dialect import FAILURES, error, rejected
from simulators.records import JsonObject, Record

COLLECTION, DISBURSEMENT = "collection", "disbursement"
REQUEST_TO_PAY, TRANSFER, REFUND = "request_to_pay", "payout", "refund"
PROCESSED, PAID_AFTER = "processed", "paid_after"
PROCESSING_S = 0.05
AMOUNT = re.compile(r"(\d{1,10})(?:\.(\d{1,2}))?")
TEXT_MAX = 160
REASONS = {
    "0": "", "2001": "APPROVAL_REJECTED", "1032": "APPROVAL_REJECTED", "1037": "EXPIRED", "1019": "EXPIRED",
    "8006": "NOT_ALLOWED",
}  # fmt: skip
"""The reason of what a phone answers."""
UNANSWERED_S = 60.0


def subject_of(operation: str) -> Callable[[Call], Subject]:
    """Return what faults can match: the caller's reference, its external id, the phone."""

    def subject(call: Call) -> Subject:
        reference = call.target_id or call.headers.get("x-reference-id", "")
        others = (call.text("externalId"), _party(call), call.text("referenceIdToRefund"))
        return Subject(operation=operation, reference=reference, others=others)

    return subject


def _party(call: Call) -> str:
    party = call.params.get("payer") or call.params.get("payee")
    return str(party.get("partyId", "")) if isinstance(party, dict) else ""


def collect(call: Call) -> Reply:
    """Take a request that a phone shall pay. It runs inside a transaction."""
    phone = phones.find(call.records, _msisdn(call, "payer"))
    after_s = phone.after_s
    if REASONS[phones.ANSWERS[phone.answer]] == "EXPIRED" and after_s == phones.ANSWER_S:
        after_s = UNANSWERED_S
    own: JsonObject = {"msisdn": _msisdn(call, "payer"), "role": "payer"}
    return _take(call, REQUEST_TO_PAY, after_s, own, paid_after_s=phone.paid_after_s)


def transfer(call: Call) -> Reply:
    """Take a request to pay a phone. It runs inside a transaction."""
    return _take(call, TRANSFER, PROCESSING_S, {"msisdn": _msisdn(call, "payee"), "role": "payee"})


def refund(call: Call) -> Reply:
    """Take a request to give back what was collected. It runs inside a transaction."""
    return _take(call, REFUND, PROCESSING_S, {"refunded": call.text("referenceIdToRefund"), "role": "payee"})


def _take(
    call: Call, kind: str, after_s: float, own: JsonObject, *, paid_after_s: float | None = None
) -> Reply:  # fmt: skip
    reference = _reference(call.headers.get("x-reference-id", ""))
    name, seen = _id(kind, reference), f"seen {kind} {reference}"
    if call.records.find(kind, name) is not None or call.records.kept_under(seen) is not None:
        raise Refused(error(409, "RESOURCE_ALREADY_EXIST", "Duplicated reference id. Creation of resource failed."))
    if call.has(Kind.REFUSED_KEPT):
        call.records.keep_under(seen, {"at": call.now})
        return error(*FAILURES[Kind.REFUSED])
    if call.text("currency") != call.short_code.currency:
        raise Refused(error(500, "INVALID_CURRENCY", "Currency not supported."))
    late, forced = first(call.kept, Kind.LATE_RESULT), first(call.kept, Kind.RESULT)
    forced_later = None if forced is None else forced.paid_after_s
    record = Record(
        kind=kind, id=name, reference=call.text("externalId"), state="PENDING",
        fields={
            **own, "amount_minor": _amount_minor(call), "amount": call.text("amount"),
            "currency": call.short_code.currency, "short_code": call.short_code.short_code,
            "message": call.text("payerMessage")[:TEXT_MAX], "note": call.text("payeeNote")[:TEXT_MAX],
            "url": call.headers.get("x-callback-url", ""), "faults": stored(call.kept), "accepted_at": call.now,
            "paid_after_s": paid_after_s if forced is None else forced_later, "receipt": "", "reason": "",
        },
    )  # fmt: skip
    call.records.add(record)
    due_at = call.now + after_s + (0.0 if late is None else late.delay_s)
    call.records.schedule(PROCESSED, name, due_at, product=kind)
    return Reply(status=202, body={})


def _id(kind: str, reference: str) -> str:
    return f"{kind}:{reference}"


def _reference(text: str) -> str:
    try:
        parsed = UUID(text)
    except ValueError:
        raise rejected("X-Reference-Id is no UUID.") from None
    if parsed.version != 4:
        raise rejected("X-Reference-Id is no UUID of version 4.")
    return str(parsed)


def _amount_minor(call: Call) -> int:
    value = call.params.get("amount")
    matched = AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        raise rejected("amount is a text such as 500 or 500.00.")
    amount_minor = int(matched[1]) * SHILLING + int((matched[2] or "0").ljust(2, "0"))
    if not 0 < amount_minor <= books.TRANSACTION_MAX * SHILLING:
        raise rejected("amount is out of range.")
    return amount_minor


def _msisdn(call: Call, role: str) -> str:
    party = call.params.get(role)
    if not isinstance(party, dict) or party.get("partyIdType") != "MSISDN":
        raise rejected(f"{role} has a partyIdType, MSISDN, and a partyId.")
    msisdn = str(party.get("partyId", ""))
    if phones.MSISDN.fullmatch(msisdn) is None:
        raise rejected(f"The partyId of {role} is no MSISDN.")
    return msisdn


def status_of(kind: str) -> Callable[[Call], Reply]:
    """Return the operation that shows a request's status; 404 proves that it was never taken."""

    def status(call: Call) -> Reply:
        record = call.records.find(kind, _id(kind, call.target_id.lower()))
        if record is None or call.has(Kind.NOT_FOUND) or record.fields["short_code"] != call.short_code.short_code:
            raise Refused(error(404, "RESOURCE_NOT_FOUND", "Requested resource was not found."))
        return Reply(status=200, body=shown(record, call.faults))

    return status


def shown(record: Record, faults: tuple[Fault, ...]) -> JsonObject:
    """Return a request as a status and as a callback show it. It lacks the caller's reference."""
    body: JsonObject = {
        "externalId": record.reference, "amount": record.text("amount"), "currency": record.text("currency"),
        "payerMessage": record.text("message"), "payeeNote": record.text("note"), "status": record.state,
    }  # fmt: skip
    if record.text("msisdn"):
        body[record.text("role")] = {"partyIdType": "MSISDN", "partyId": record.text("msisdn")}
    if record.state == "SUCCESSFUL":
        body["financialTransactionId"] = record.text("receipt")
    if reason := record.text("reason"):
        is_object = first(faults, Kind.REASON_OBJECT) is not None
        body["reason"] = {"code": reason, "message": reason.replace("_", " ").lower()} if is_object else reason
    return body


def balance(call: Call) -> Reply:
    """Return what the short code can pay out."""
    available = plain(call.records.balance(books.account(call.short_code.short_code, books.UTILITY)))
    return Reply(status=200, body={"availableBalance": available, "currency": call.short_code.currency})


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    """What happens to requests that were taken."""

    operations: Mapping[str, str]
    seed: int

    def processed(self, records: MobileRecords, due: Happening, now: float) -> None:
        """End a request: successful, or failed with a reason, perhaps to be successful later all the same."""
        record = _record(records, due)
        forced, later = first(restored(record.fields["faults"]), Kind.RESULT), record.fields["paid_after_s"]
        reason = _answered(records, record) if forced is None or forced.code in (None, "0") else str(forced.code)
        ended = _entered(records, record, now) if not reason else record.become("FAILED", reason=reason)
        if ended.state == "FAILED" and isinstance(later, float | int):
            records.schedule(PAID_AFTER, record.id, now + later, product=record.kind)
        ended = ended.become(ended.state, ended_at=now)
        records.update(ended)
        self._tell(records, ended, now)

    def paid_after(self, records: MobileRecords, due: Happening, now: float) -> None:
        """Let a request succeed that has failed: only its status shows that, for a callback comes once."""
        record = _record(records, due)
        ended = _entered(records, record.become("PENDING", reason=""), now)
        records.update(ended.become(ended.state, ended_at=now))

    def _tell(self, records: MobileRecords, record: Record, now: float) -> None:
        reference = record.id.partition(":")[2]
        subject = Subject(
            operation=self.operations[record.kind], reference=reference,
            others=(record.reference, record.text("msisdn"), record.text("receipt")),
        )  # fmt: skip
        told = Told(
            url=record.text("url"), about=reference, subject=subject, shape=lambda faults: shown(record, faults),
            method="PUT", own=restored(record.fields["faults"]),
        )  # fmt: skip
        callbacks.tell(records, told, now=now, seed=self.seed)


def _record(records: MobileRecords, due: Happening) -> Record:
    record = records.find(str(due.details["product"]), due.subject)
    assert record is not None, "requests are never deleted"
    return record


def _answered(records: MobileRecords, record: Record) -> str:
    """Return why a phone does not pay, empty where it does."""
    if record.kind != REQUEST_TO_PAY:
        return ""
    return REASONS[phones.ANSWERS[phones.find(records, record.text("msisdn")).answer]]


def _entered(records: MobileRecords, record: Record, now: float) -> Record:
    """Enter the money of a request, and return it ended. It runs inside a transaction."""
    utility = books.account(record.text("short_code"), books.UTILITY)
    msisdn, amount_minor, linked = record.text("msisdn"), record.amount("amount_minor"), ""
    if record.kind == REFUND:
        collected = records.find(REQUEST_TO_PAY, _id(REQUEST_TO_PAY, record.text("refunded")))
        if collected is None or collected.state != "SUCCESSFUL" or amount_minor != collected.amount("amount_minor"):
            return _failed(record, "RESOURCE_NOT_FOUND")
        if records.kept_under(f"reversed {collected.text('receipt')}") is not None:
            return _failed(record, "NOT_ALLOWED")
        msisdn, linked = collected.text("msisdn"), collected.text("receipt")
    if not phones.find(records, msisdn).is_registered:
        return _failed(record, "PAYER_NOT_FOUND" if record.kind == REQUEST_TO_PAY else "PAYEE_NOT_FOUND")
    wallet = books.wallet(records, msisdn, now)
    if record.kind != REQUEST_TO_PAY and records.balance(wallet) + amount_minor > books.WALLET_MINOR_MAX:
        return _failed(record, "PAYEE_NOT_ALLOWED_TO_RECEIVE")
    is_in = record.kind == REQUEST_TO_PAY
    kinds = {REQUEST_TO_PAY: books.PAY_IN, TRANSFER: books.PAY_OUT, REFUND: books.REVERSAL}
    party = f"{msisdn} - {phones.name_of(records, msisdn).whole}"
    made = books.Transfer(
        kind=kinds[record.kind], source=wallet if is_in else utility, target=utility if is_in else wallet,
        amount_minor=amount_minor,
        details={"party": party, "msisdn": msisdn, "reference": record.reference, "linked": linked,
                 "originator": record.id.partition(":")[2], "begun_at": record.fields["accepted_at"]},
    )  # fmt: skip
    try:
        receipt = books.enter(records, made, now, receipt=f"{records.next_receipt(now):010d}")
    except books.TooLittle:
        return _failed(record, "NOT_ENOUGH_FUNDS")
    if linked:
        records.keep_under(f"reversed {linked}", {"receipt": receipt})
    return record.become("SUCCESSFUL", receipt=receipt)


def _failed(record: Record, reason: str) -> Record:
    return record.become("FAILED", reason=reason)
