"""What takes a payment back, and what a short code sends to another account or another short code."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

from simulators.daraja import credentials, fields, queue
from simulators.daraja.dialect import invalid
from simulators.daraja.results import Outcome
from simulators.face import Reply
from simulators.mobile import books
from simulators.mobile.face import Call
from simulators.mobile.faults import Subject
from simulators.mobile.records import MobileRecords
from simulators.mobile.statements import plain
from simulators.mobile.tariffs import SHILLING
from simulators.mobile.times import compact
from simulators.records import Record

REVERSAL, BUSINESS_PAYMENT = "reversal", "business_payment"
TO_UTILITY, TO_WORKING = "BusinessTransferFromMMFToUtility", "BusinessTransferFromUtilityToMMF"
COMMANDS = ("BusinessPayBill", "BusinessBuyGoods", "BusinessPayToBulk", TO_UTILITY, TO_WORKING)
ORGANIZATION_RECEIVER = "11"
DIGITS_MAX = 999_999_999


def subject_of(operation: str) -> Callable[[Call], Subject]:
    """Return what faults can match: the receipt that is taken back, or the reference of a payment."""

    def subject(call: Call) -> Subject:
        name = "TransactionID" if operation == REVERSAL else "AccountReference"
        return Subject(operation=operation, reference=call.text(name) or uuid4().hex, others=(call.text("Occasion"),))

    return subject


def reverse(call: Call) -> Reply:
    """Take a request to give a payment back to its payer."""
    fields.choice(call, "CommandID", ("TransactionReversal",))
    receipt = fields.text(call, "TransactionID", 1, 20).strip().upper()
    fields.own(call, "ReceiverParty")
    identifier = call.text("RecieverIdentifierType") or call.text("ReceiverIdentifierType")
    if identifier != ORGANIZATION_RECEIVER:
        raise invalid("RecieverIdentifierType")
    fields.text(call, "Remarks", 2, 100)
    amount = fields.whole(call)
    own = {"receipt_reversed": receipt, "amount_minor": amount * SHILLING}
    return queue.accept(call, _taken(call, REVERSAL, own, receipt))


def send(call: Call) -> Reply:
    """Take a payment to a business, or between the accounts of the short code."""
    command = fields.choice(call, "CommandID", COMMANDS)
    fields.own(call, "PartyA")
    receiver = fields.text(call, "PartyB", 5, 7)
    amount = fields.whole(call, most=DIGITS_MAX)
    fields.text(call, "Remarks", 2, 100)
    own = {"command": command, "receiver": receiver, "amount_minor": amount * SHILLING}
    return queue.accept(call, _taken(call, BUSINESS_PAYMENT, own, call.text("AccountReference")))


def _taken(call: Call, kind: str, own: dict[str, object], about: str) -> queue.Taken:
    return queue.Taken(
        kind=kind, originator=call.text("OriginatorConversationID") or uuid4().hex,
        result_url=fields.url(call, "ResultURL"), timeout_url=fields.url(call, "QueueTimeOutURL"),
        credential=credentials.check(call, "Initiator"), others=(about,), occasion=call.text("Occasion"), fields=own,
    )  # fmt: skip


def give_back(records: MobileRecords, record: Record, now: float) -> Outcome:
    """Give a payment back, once. It runs inside a transaction."""
    receipt, utility = record.text("receipt_reversed"), books.account(record.text("short_code"), books.UTILITY)
    paid = [each for each in records.entries_of(receipt) if each.account == utility and each.kind == books.PAY_IN]
    if not paid:
        return Outcome(code="R000002")
    if records.kept_under(f"reversed {receipt}") is not None:
        return Outcome(code="R000001")
    if paid[0].amount_minor != record.amount("amount_minor"):
        return Outcome(code="2", description="The amount is not that of the original transaction.")
    msisdn, party = str(paid[0].details["msisdn"]), str(paid[0].details["party"])
    returned = books.Transfer(
        kind=books.REVERSAL, source=utility, target=books.wallet(records, msisdn, now),
        amount_minor=paid[0].amount_minor,
        details={"party": party, "linked": receipt, "about": receipt, "begun_at": record.fields["accepted_at"],
                 "conversation": record.id, "originator": record.reference},
    )  # fmt: skip
    try:
        own = books.enter(records, returned, now)
    except books.TooLittle:
        return Outcome(code="1")
    records.keep_under(f"reversed {receipt}", {"receipt": own})
    parameters = [
        ("DebitAccountBalance", f"Utility Account|KES|{plain(records.balance(utility))}"),
        ("Amount", paid[0].amount_minor // SHILLING),
        ("TransCompletedTime", int(compact(now))),
        ("OriginalTransactionID", receipt),
        ("Charge", 0),
        ("CreditPartyPublicName", party),
        ("DebitPartyPublicName", f"{record.text('short_code')} - BARAZA SACCO"),
    ]
    return Outcome(receipt=own, parameters=parameters)


def forward(records: MobileRecords, record: Record, now: float) -> Outcome:
    """Transfer between the accounts of the short code, or pay another one. It runs inside a transaction."""
    own, command, receiver = record.text("short_code"), record.text("command"), record.text("receiver")
    if command == TO_WORKING:
        return Outcome(code="21")
    source = books.account(own, books.WORKING if command == TO_UTILITY else books.UTILITY)
    is_own = command == TO_UTILITY
    target = books.account(own, books.UTILITY) if is_own else books.account(receiver, books.WORKING)
    sent = books.Transfer(
        kind=books.TRANSFER, source=source, target=target, amount_minor=record.amount("amount_minor"),
        details={"party": receiver, "begun_at": record.fields["accepted_at"], "conversation": record.id,
                 "originator": record.reference},
    )  # fmt: skip
    try:
        receipt = books.enter(records, sent, now)
    except books.TooLittle:
        return Outcome(code="1")
    parameters = [
        ("InitiatorAccountCurrentBalance", plain(records.balance(source))),
        ("DebitAccountCurrentBalance", plain(records.balance(source))),
        ("Amount", record.amount("amount_minor") // SHILLING),
        ("TransCompletedTime", int(compact(now))),
        ("ReceiverPartyPublicName", receiver),
        ("Currency", "KES"),
    ]
    return Outcome(receipt=receipt, parameters=parameters)
