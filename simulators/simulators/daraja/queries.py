"""Queries that Daraja answers later: the status of a transaction, and the balances of a short code."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from simulators.daraja import credentials, fields, queue
from simulators.daraja.b2c import PAYOUT
from simulators.daraja.dialect import invalid
from simulators.daraja.results import Outcome, text_of
from simulators.face import Reply
from simulators.mobile import books
from simulators.mobile.face import Call
from simulators.mobile.faults import Kind, Subject
from simulators.mobile.records import Entry, MobileRecords
from simulators.mobile.statements import REASONS, plain
from simulators.mobile.tariffs import SHILLING
from simulators.mobile.times import compact
from simulators.records import Record

STATUS, BALANCE = "status_query", "balance_query"
ORGANIZATION = "4"
NOT_FOUND = "R000002"
NOT_FOUND_TEXT = "The transaction does not exist."
ASKABLE = (PAYOUT, "reversal", "business_payment")
"""The kinds of requests whose status can be queried by their ids."""


def subject_of(operation: str) -> Callable[[Call], Subject]:
    """Return what faults can match of a query: each is another one; besides, what it is about."""

    def subject(call: Call) -> Subject:
        about = tuple(call.text(name) for name in ("TransactionID", "OriginalConversationID", "PartyA"))
        return Subject(operation=operation, reference=uuid4().hex, others=about)

    return subject


def ask_status(call: Call) -> Reply:
    """Take a query for the status of a transaction, by its receipt or by an id of its request."""
    receipt, conversation = call.text("TransactionID").strip().upper(), call.text("OriginalConversationID").strip()
    if not receipt and not conversation:
        raise invalid("TransactionID")
    fields.choice(call, "CommandID", ("TransactionStatusQuery",))
    about = {"receipt": receipt, "conversation": conversation, "is_hidden": call.has(Kind.NOT_FOUND)}
    return queue.accept(call, _taken(call, STATUS, about))


def ask_balance(call: Call) -> Reply:
    """Take a query for the balances of a short code."""
    fields.choice(call, "CommandID", ("AccountBalance",))
    return queue.accept(call, _taken(call, BALANCE, {}))


def _taken(call: Call, kind: str, own: dict[str, object]) -> queue.Taken:
    fields.own(call, "PartyA")
    fields.choice(call, "IdentifierType", (ORGANIZATION,))
    fields.text(call, "Remarks", 2, 100)
    about = tuple(str(each) for each in own.values() if isinstance(each, str))
    return queue.Taken(
        kind=kind, originator=call.text("OriginatorConversationID") or uuid4().hex,
        result_url=fields.url(call, "ResultURL"), timeout_url=fields.url(call, "QueueTimeOutURL"),
        credential=credentials.check(call, "Initiator"), others=about, occasion=call.text("Occasion"), fields=own,
    )  # fmt: skip


def status(records: MobileRecords, record: Record, now: float) -> Outcome:
    """Return the status of a transaction; what waits in a queue is not found."""
    del now
    found = None if record.fields["is_hidden"] else _found(records, record)
    if found is None:
        return Outcome(code=NOT_FOUND, description=NOT_FOUND_TEXT)
    if isinstance(found, Record):
        return Outcome(parameters=_of_failed(found))
    return Outcome(parameters=_of_completed(records, found))


def _found(records: MobileRecords, query: Record) -> Entry | Record | None:
    """Return what a query is about: an entry of the short code, or a request that failed."""
    receipt, own = query.text("receipt"), query.text("short_code")
    if query.text("conversation"):
        request = _request(records, query.text("conversation"), own)
        if request is None or request.state == "queued":
            return None
        if request.state == "failed":
            return request
        receipt = request.text("receipt")
    utility = [books.account(own, name) for name in (books.UTILITY, books.WORKING)]
    entries = [each for each in records.entries_of(receipt) if each.account in utility]
    return entries[0] if entries else None


def _request(records: MobileRecords, conversation: str, short_code: str) -> Record | None:
    for kind in ASKABLE:
        found = records.find(kind, conversation)
        listed = [found] if found is not None else records.of_reference(kind, conversation)
        if own := [each for each in listed if each.fields["short_code"] == short_code]:
            return own[-1]
    return None


def _of_completed(records: MobileRecords, entry: Entry) -> list[tuple[str, object]]:
    own = f"{entry.account.partition(':')[0]} - BARAZA SACCO"
    party, is_paid_in = str(entry.details.get("party", "")), entry.amount_minor > 0
    charges = [each for each in records.entries_of(entry.receipt) if each.kind == "charge" and each.amount_minor < 0]
    charge = f"Fee For B2C Payment|KES|{plain(-charges[0].amount_minor)}" if charges else ""
    reversed_by = records.kept_under(f"reversed {entry.receipt}")
    return [
        ("DebitPartyName", party if is_paid_in else own),
        ("DebitPartyName", party if is_paid_in else own),
        ("CreditPartyName", own if is_paid_in else party),
        ("OriginatorConversationID", str(entry.details.get("originator", ""))),
        ("InitiatedTime", int(compact(float(str(entry.details.get("begun_at", entry.at)))))),
        ("DebitAccountType", "Utility Account"),
        ("DebitPartyCharges", charge),
        ("TransactionReason", "Reversed" if reversed_by is not None else ""),
        ("ReasonType", REASONS.get(entry.kind, entry.kind)),
        ("TransactionStatus", "Completed"),
        ("FinalisedTime", int(compact(entry.at))),
        ("Amount", abs(entry.amount_minor) // SHILLING),
        ("ConversationID", str(entry.details.get("conversation", ""))),
        ("ReceiptNo", entry.receipt),
        ("Credit Party Type", "Organization" if is_paid_in else "Customer"),
    ]


def _of_failed(request: Record) -> list[tuple[str, object]]:
    ended = int(compact(float(str(request.fields["ended_at"]))))
    return [
        ("DebitPartyName", f"{request.text('short_code')} - BARAZA SACCO"),
        ("DebitPartyName", f"{request.text('short_code')} - BARAZA SACCO"),
        ("CreditPartyName", request.text("msisdn")),
        ("OriginatorConversationID", request.reference),
        ("InitiatedTime", int(compact(float(str(request.fields["accepted_at"]))))),
        ("TransactionReason", text_of(request.text("code"))),
        ("TransactionStatus", "Declined"),
        ("FinalisedTime", ended),
        ("Amount", int(str(request.fields.get("amount_minor", 0))) // SHILLING),
        ("ConversationID", request.id),
        ("ReceiptNo", request.text("receipt")),
    ]


NAMES = {books.WORKING: "Working Account", books.UTILITY: "Utility Account", books.CHARGES: "Charges Paid Account"}


def balance(records: MobileRecords, record: Record, now: float) -> Outcome:
    """Return the balances in one text: accounts by ampersands, their fields by bars."""
    own = record.text("short_code")
    accounts = []
    for name, shown in NAMES.items():
        minor = plain(records.balance(books.account(own, name)))
        accounts.append(f"{shown}|KES|{minor}|{minor}|0.00|0.00")
    accounts.append("Float Account|KES|0.00|0.00|0.00|0.00")
    accounts.append("Organization Settlement Account|KES|0.00|0.00|0.00|0.00")
    parameters = [("AccountBalance", "&".join(accounts)), ("BOCompletedTime", int(compact(now)))]
    return Outcome(parameters=parameters)
