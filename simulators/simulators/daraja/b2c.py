"""Payouts: from the utility account of a short code to a phone. None of them can be taken back."""

from __future__ import annotations

from simulators.daraja import credentials, fields, queue
from simulators.daraja.dialect import FAILURES, INTERNAL, error, invalid
from simulators.daraja.results import Outcome
from simulators.face import Refused, Reply
from simulators.mobile import books, phones, tariffs
from simulators.mobile.face import Call
from simulators.mobile.faults import Kind, Subject
from simulators.mobile.records import MobileRecords
from simulators.mobile.statements import plain
from simulators.mobile.times import dotted
from simulators.records import Record

PAYOUT = "payout"
COMMANDS = ("SalaryPayment", "BusinessPayment", "PromotionPayment")
AMOUNT_MIN = 10
DIGITS_MAX = 9_999_999
SHILLING = tariffs.SHILLING


def subject(call: Call) -> Subject:
    """Return what faults can match: the caller's id, the phone, the occasion."""
    others = tuple(call.text(name) for name in ("PartyB", "Occassion", "Occasion", "Remarks"))
    return Subject(operation="b2c", reference=call.text("OriginatorConversationID"), others=others)


def pay_out(call: Call) -> Reply:
    """Take a payout. The caller's id is a guard against duplicates: a repeat is refused, not answered again."""
    originator = call.text("OriginatorConversationID")
    if fields.ORIGINATOR.fullmatch(originator) is None:
        raise invalid("OriginatorConversationID")
    if _is_seen(call, originator):
        raise Refused(error(500, INTERNAL, "Duplicate OriginatorConversationID."))
    if call.has(Kind.REFUSED_KEPT):
        call.records.keep_under(_seen(call, originator), {"at": call.now})
        return error(*FAILURES[Kind.REFUSED])
    fields.choice(call, "CommandID", COMMANDS)
    fields.own(call, "PartyA")
    msisdn = fields.phone(call, "PartyB")
    amount = fields.whole(call, most=DIGITS_MAX)
    fields.text(call, "Remarks", 2, 100)
    occasion = call.text("Occassion") or call.text("Occasion")
    taken = queue.Taken(
        kind=PAYOUT, originator=originator, result_url=fields.url(call, "ResultURL"),
        timeout_url=fields.url(call, "QueueTimeOutURL"), credential=credentials.check(call, "InitiatorName"),
        others=(msisdn, occasion), occasion=occasion,
        fields={"msisdn": msisdn, "amount_minor": amount * SHILLING, "currency": call.short_code.currency},
    )  # fmt: skip
    return queue.accept(call, taken)


def _is_seen(call: Call, originator: str) -> bool:
    own = call.short_code.short_code
    taken = any(each.fields["short_code"] == own for each in call.records.of_reference(PAYOUT, originator))
    return taken or call.records.kept_under(_seen(call, originator)) is not None


def _seen(call: Call, originator: str) -> str:
    return f"seen {call.short_code.short_code} {originator}"


def process(records: MobileRecords, record: Record, now: float) -> Outcome:
    """Pay, or refuse by a limit. It runs inside a transaction."""
    short_code, msisdn = record.text("short_code"), record.text("msisdn")
    amount_minor = record.amount("amount_minor")
    if amount_minor < AMOUNT_MIN * SHILLING:
        return Outcome(code="2")
    if amount_minor > books.TRANSACTION_MAX * SHILLING:
        return Outcome(code="3")
    if not phones.find(records, msisdn).is_registered:
        return Outcome(code="2040")
    wallet = books.wallet(records, msisdn, now)
    if books.received_today(records, wallet, now) + amount_minor > books.WALLET_MINOR_MAX:
        return Outcome(code="4")
    if records.balance(wallet) + amount_minor > books.WALLET_MINOR_MAX:
        return Outcome(code="8")
    party = f"{msisdn} - {phones.name_of(records, msisdn).whole}"
    paid = books.Transfer(
        kind=books.PAY_OUT, source=books.account(short_code, books.UTILITY), target=wallet, amount_minor=amount_minor,
        details={
            "party": party, "about": f"to {party}", "msisdn": msisdn, "originator": record.reference,
            "conversation": record.id, "begun_at": record.fields["accepted_at"],
            "reference": record.text("occasion"),
        },
    )  # fmt: skip
    try:
        receipt = books.enter(records, paid, now)
    except books.TooLittle:
        return Outcome(code="1")
    return Outcome(receipt=receipt, parameters=_parameters(records, record, receipt, party, now))


def _parameters(
    records: MobileRecords, record: Record, receipt: str, party: str, now: float
) -> list[tuple[str, object]]:
    funds = {
        name: float(plain(records.balance(books.account(record.text("short_code"), name)))) for name in books.ACCOUNTS
    }
    return [
        ("TransactionAmount", record.amount("amount_minor") // SHILLING),
        ("TransactionReceipt", receipt),
        ("ReceiverPartyPublicName", party),
        ("TransactionCompletedDateTime", dotted(now)),
        ("B2CUtilityAccountAvailableFunds", funds[books.UTILITY]),
        ("B2CWorkingAccountAvailableFunds", funds[books.WORKING]),
        ("B2CRecipientIsRegisteredCustomer", "Y"),
        ("B2CChargesPaidAccountAvailableFunds", funds[books.CHARGES]),
    ]
