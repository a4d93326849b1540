"""Pull: the payments of the last 48 hours, in pages."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from simulators.daraja import fields
from simulators.daraja.dialect import invalid
from simulators.face import Reply
from simulators.mobile import books, phones
from simulators.mobile.face import Call
from simulators.mobile.faults import Kind, Subject
from simulators.mobile.records import Entry
from simulators.mobile.statements import plain
from simulators.mobile.times import local, parsed
from simulators.records import JsonObject

WINDOW_S = 48 * 3_600.0
PAGE = 100
FOUND, NONE = "1000", "1001"
FORM = "%Y-%m-%d %H:%M:%S"


def subject(call: Call) -> Subject:
    """Return what faults can match: one query is not another."""
    return Subject(operation="pull", reference=uuid4().hex, others=(call.text("ShortCode"),))


def register_subject(call: Call) -> Subject:
    """Return what faults can match of a registration."""
    return Subject(operation="pull_register", reference=call.text("ShortCode"))


def register(call: Call) -> Reply:
    """Register a short code for pull; again changes nothing."""
    short_code = fields.own(call, "ShortCode")
    fields.choice(call, "RequestType", ("Pull",))
    fields.url(call, "CallBackURL")
    is_again = call.records.kept_under(_name(short_code)) is not None
    call.records.keep_under(_name(short_code), {"nominated": call.text("NominatedNumber")})
    status = "1001" if is_again else "1000"
    text = "ShortCode already Registered" if is_again else "ShortCode Registered Successfully"
    return Reply(
        status=200,
        body={"ResponseRefID": uuid4().hex, "Response Status": status, "ShortCode": short_code,
              "Response Description": text},
    )  # fmt: skip


def query(call: Call) -> Reply:
    """Return a page of payments between two times, none of them older than the window."""
    short_code = fields.own(call, "ShortCode")
    if call.records.kept_under(_name(short_code)) is None:
        raise invalid("ShortCode")
    since, until = _time(call, "StartDate"), _time(call, "EndDate")
    offset_text = call.text("OffSetValue") or "0"
    if not offset_text.isascii() or not offset_text.isdigit():
        raise invalid("OffSetValue")
    offset = int(offset_text)
    utility = books.account(short_code, books.UTILITY)
    since = max(since, call.now - WINDOW_S)
    found = call.records.entries_of_kind(utility, books.PAY_IN, since, until + 1, offset=offset, limit=PAGE)
    rows = [_row(call, each) for each in found]
    return Reply(
        status=200,
        body={
            "ResponseRefID": uuid4().hex,
            "ResponseCode": FOUND if rows else NONE,
            "ResponseMessage": "Success" if rows else "No transactions found",
            "Response": rows if call.has(Kind.FLAT) else [rows] if rows else [],
        },
    )


def _row(call: Call, entry: Entry) -> JsonObject:
    msisdn = str(entry.details["msisdn"])
    at = datetime.fromtimestamp(entry.at, UTC) if call.has(Kind.UTC_TIMES) else local(entry.at)
    return {
        "transactionId": entry.receipt, "trxDate": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "msisdn": phones.hashed(msisdn) if call.has(Kind.HASHED) else msisdn, "sender": "MPESA",
        "transactiontype": "c2b-pay-bill-debit", "billreference": entry.details["reference"],
        "amount": plain(entry.amount_minor), "organizationname": "BARAZA SACCO",
    }  # fmt: skip


def _time(call: Call, name: str) -> float:
    try:
        return parsed(call.text(name), FORM)
    except ValueError:
        raise invalid(name) from None


def _name(short_code: str) -> str:
    return f"pull {short_code}"
