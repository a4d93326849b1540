"""What Daraja's callbacks say. Pure. Numbers and texts change places, keys repeat, what is optional is missing.

Everything raises ValueError for a body of another form; the body is stored before it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mobile_money import codes, readings
from mobile_money.codes import Code, Meaning
from mobile_money.port import Listed
from mobile_money.reports import Balances, End, Payment, PromptEnd, Queued, Report

PROVIDER: Final = "daraja"
STK, B2C, B2C_TIMEOUT, STATUS, BALANCE, REVERSAL, CONFIRMATION, VALIDATION = (
    "stk", "b2c", "b2c-timeout", "status", "balance", "reversal", "c2b-confirmation", "c2b-validation"
)  # fmt: skip
KINDS: Final = (STK, B2C, B2C_TIMEOUT, STATUS, BALANCE, REVERSAL, CONFIRMATION, VALIDATION)
UTILITY, WORKING, CHARGES = "utility account", "working account", "charges paid account"
RECEIPT_LENGTH: Final = 10


def read(kind: str, body: Any) -> Report:
    """Return what a callback of this kind reports. Raises ValueError."""
    if not isinstance(body, dict):
        raise ValueError("It is no JSON object")
    match kind:
        case "stk":
            return _prompt(body)
        case "c2b-confirmation":
            return _confirmation(body)
        case "b2c" | "b2c-timeout":
            return _end(body, codes.PAYOUT)
        case "reversal":
            return _end(body, codes.REVERSAL)
        case "status":
            return _status(body)
        case "balance":
            return _balances(body)
        case _:
            raise ValueError(f"Callbacks of the kind {kind} report nothing")


def prompt_id(value: str) -> str:
    """Return a prompt's id as attempts have it."""
    return f"{PROVIDER}:{value}"


def _prompt(body: Mapping[str, Any]) -> Payment | PromptEnd:
    callback = _object(_object(body, "Body"), "stkCallback")
    checkout, code = _text(callback, "CheckoutRequestID"), readings.code_of(callback.get("ResultCode"))
    if code != "0":
        return PromptEnd(
            prompt_id=prompt_id(checkout),
            code=codes.of_prompt(code),
            value=code,
            text=_described(callback),
        )
    items = _pairs(_object(callback, "CallbackMetadata").get("Item"), "Name")
    return Payment(
        receipt=_receipt(items.get("MpesaReceiptNumber")),
        amount_minor=_amount(items.get("Amount")),
        completed_at=readings.time_of(items.get("TransactionDate")),
        payer=None if items.get("PhoneNumber") is None else str(items["PhoneNumber"]),
        prompt_id=prompt_id(checkout),
    )


def _confirmation(body: Mapping[str, Any]) -> Payment:
    return Payment(
        receipt=_receipt(body.get("TransID")),
        amount_minor=_amount(body.get("TransAmount")),
        completed_at=readings.time_of(body.get("TransTime")),
        short_code=_text(body, "BusinessShortCode"),
        reference=_shown(body.get("BillRefNumber")),
        payer=_shown(body.get("MSISDN")),
    )


def _end(body: Mapping[str, Any], known: Mapping[str, Code]) -> End | Queued:
    result = body.get("Result")
    if not isinstance(result, dict):
        return Queued(own_id=_shown(body.get("OriginatorConversationID")))
    code = readings.code_of(result.get("ResultCode"))
    own_id = _shown(result.get("OriginatorConversationID"))
    meant, text = known.get(code, codes.UNKNOWN), _described(result)
    if meant.meaning is not Meaning.PAID:
        return End(code=meant, value=code, text=text, own_id=own_id)
    values = _parameters(result)
    receipt = _shown(values.get("TransactionReceipt") or result.get("TransactionID"))
    is_reversal = known is codes.REVERSAL
    if is_reversal and code == codes.REVERSED_BEFORE:  # its TransactionID is that of this request, and no row
        receipt = None
    at = values.get("TransactionCompletedDateTime") or values.get("TransCompletedTime")
    amount = values.get("TransactionAmount", values.get("Amount"))
    left = values.get("B2CUtilityAccountAvailableFunds")
    return End(
        code=meant,
        value=code,
        text=text,
        own_id=own_id,
        receipt=None if is_reversal and receipt is None else _receipt(receipt),
        amount_minor=None if amount is None else _amount(amount),
        completed_at=None if at is None else readings.time_of(at),
        phone=_phone(values.get("ReceiverPartyPublicName")),
        float_minor=_cents(left),
    )


def _status(body: Mapping[str, Any]) -> End | Queued:
    """Read the answer to a status query. Its own code speaks of the query, its TransactionStatus of the payment."""
    result = body.get("Result")
    if not isinstance(result, dict):
        return Queued(own_id=None)
    code, text = readings.code_of(result.get("ResultCode")), _described(result)
    question_id = _shown(result.get("ConversationID"))
    values = _parameters(result)
    status = values.get("TransactionStatus")
    if code != "0" or status is None:
        ours = codes.PAYOUT.get(code)
        is_ours = ours is not None and ours.meaning is Meaning.OURS
        meaning = Meaning.UNCERTAIN if is_ours or code == "0" else Meaning.NOT_FOUND
        return End(code=Code(meaning=meaning, reason="query"), value=code, text=text, question_id=question_id)
    known = codes.STATUSES.get(str(status).strip().lower(), codes.UNKNOWN)
    is_paid = known.meaning is Meaning.PAID
    at = values.get("FinalisedTime")
    return End(
        code=known,
        value=str(status),
        text=_shown(values.get("TransactionReason")) or text,
        own_id=_shown(values.get("OriginatorConversationID")),
        question_id=question_id,
        receipt=_receipt(values.get("ReceiptNo")) if is_paid else None,
        amount_minor=_amount(values.get("Amount")) if is_paid else None,
        completed_at=readings.time_of(at) if is_paid and at is not None else None,
    )


def _balances(body: Mapping[str, Any]) -> Balances:
    result = _object(body, "Result")
    if readings.code_of(result.get("ResultCode")) != "0":
        raise ValueError(f"It has no balance: {_described(result)}")
    values = _parameters(result)
    accounts: dict[str, int | None] = {}
    for account in str(values.get("AccountBalance", "")).split("&"):
        name, _, fields = account.partition("|")
        cells = fields.split("|")
        accounts[name.strip().lower()] = _cents(cells[1]) if len(cells) > 1 else None
    charges = accounts.get(CHARGES)
    at = values.get("BOCompletedTime")
    return Balances(
        question_id=_shown(result.get("ConversationID")),
        utility_minor=accounts.get(UTILITY),
        working_minor=accounts.get(WORKING),
        charges_minor=None if charges is None else abs(charges),
        at=None if at is None else readings.time_of(at),
    )


def listed(body: Mapping[str, Any]) -> tuple[Listed, ...]:
    """Return the payments of a pull's answer, whose lists are sometimes nested. Raises ValueError."""
    return tuple(
        Listed(
            receipt=_receipt(row.get("transactionId")),
            amount_minor=_amount(row.get("amount")),
            completed_at=readings.time_of(row.get("trxDate")),
            reference=_shown(row.get("billreference")),
            payer=_shown(row.get("msisdn")),
        )
        for row in _rows(body.get("Response"))
    )


def _rows(value: Any) -> list[Mapping[str, Any]]:
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return [row for each in value for row in _rows(each)]
    return []


def _parameters(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a result, a list or a single object. Of a key that repeats the first is taken."""
    found = result.get("ResultParameters")
    return _pairs(found.get("ResultParameter") if isinstance(found, dict) else None, "Key")


def _pairs(items: Any, name: str) -> dict[str, Any]:
    listed_items: Sequence[Any] = [items] if isinstance(items, dict) else items if isinstance(items, list) else []
    pairs: dict[str, Any] = {}
    for item in listed_items:
        if isinstance(item, dict) and isinstance(item.get(name), str):
            pairs.setdefault(item[name].strip(), item.get("Value"))
    return pairs


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise ValueError(f"{name} is missing or no object")
    return found


def _text(body: Mapping[str, Any], name: str) -> str:
    found = _shown(body.get(name))
    if found is None:
        raise ValueError(f"{name} is missing")
    return found


def _shown(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list | bool):
        return None
    return readings.storable(str(value).strip()) or None


def _described(result: Mapping[str, Any]) -> str:
    """Return the free text of a result, which decides nothing."""
    return _shown(result.get("ResultDesc")) or ""


def _receipt(value: Any) -> str:
    found = readings.receipt_of(value)
    if len(found) != RECEIPT_LENGTH:
        raise ValueError(f"The receipt {found} has {len(found)} characters, and not {RECEIPT_LENGTH}")
    return found


def _amount(value: Any) -> int:
    found = readings.amount_minor(value)
    if found <= 0:
        raise ValueError(f"The amount is {value}")
    return found


def _cents(value: Any) -> int | None:
    """Return a balance in cents; it may have a fraction, and be negative. None where it cannot be read."""
    try:
        return round(float(str(value).replace(",", "")) * readings.MINOR) if value not in (None, "") else None
    except ValueError:
        return None


def _phone(value: Any) -> str | None:
    """Return the phone before the name in a receiver's public name; None where it is masked."""
    try:
        return readings.phone_of(str(value).partition("-")[0])
    except ValueError:
        return None
