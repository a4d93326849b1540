"""The bodies of Daraja's callbacks, with the forms that they were seen in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulators.mobile import phones
from simulators.mobile.callbacks import EXACT
from simulators.mobile.faults import Fault, Kind, first
from simulators.records import JsonObject

DONE = "The service request is processed successfully."
TEXTS = {
    "0": DONE,
    "1": "The balance is insufficient for the transaction.",
    "2": "Declined due to limit rule: less than the minimum transaction amount.",
    "3": "Declined due to limit rule: greater than the maximum transaction amount.",
    "4": "Declined due to limit rule: would exceed daily transfer limit.",
    "8": "Declined due to limit rule: would exceed the maximum balance.",
    "11": "The DebitParty is in an invalid state.",
    "15": "Duplicate Detected.",
    "17": "Rule limited.",
    "21": "The initiator is not allowed to initiate this request.",
    "26": "System busy. The service request is rejected.",
    "1001": "Unable to lock subscriber, a transaction is already in process for the current subscriber.",
    "1019": "Transaction has expired",
    "1025": "An error occurred while sending a push request",
    "1032": "Request cancelled by user",
    "1037": "DS timeout user cannot be reached",
    "2001": "The initiator information is invalid.",
    "2028": "The request is not permitted according to product assignment.",
    "2040": "Credit Party customer type (Unregistered or Registered Customer) can't be supported by the service.",
    "8006": "The security credential is locked.",
    "R000001": "The transaction has already been reversed.",
    "R000002": "The OriginalTransactionID is invalid.",
    "SFC_IC0003": "The operator does not exist.",
}


def text_of(code: str) -> str:
    """Return the description of a code."""
    return TEXTS.get(code, "The service request has failed.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a request. ``receipt`` is empty where there is none; a list of parameters keeps its order."""

    code: str = "0"
    receipt: str = ""
    parameters: Sequence[tuple[str, object]] = ()
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of an asynchronous request. ``is_code_text``: this product has its code as text."""

    outcome: Outcome
    originator: str
    conversation: str
    occasion: str = ""
    timeout_url: str = ""
    is_code_text: bool = False

    def body(self, faults: tuple[Fault, ...]) -> JsonObject:
        """Return the body of the callback."""
        outcome = self.outcome
        result: JsonObject = {
            "ResultType": 0,
            "ResultCode": _code(outcome.code, faults, is_text=self.is_code_text),
            "ResultDesc": outcome.description or text_of(outcome.code),
            "OriginatorConversationID": self.originator,
            "ConversationID": self.conversation,
            "TransactionID": outcome.receipt,
        }
        parameters = _parameters(outcome.parameters, faults)
        if parameters is not None:
            result["ResultParameters"] = {"ResultParameter": parameters}
        item = {"Key": "QueueTimeoutURL", "Value": self.timeout_url}
        items = [{"Key": "Occasion", "Value": self.occasion}, item] if self.occasion else item
        result["ReferenceData"] = {"ReferenceItem": items}
        return {"Result": result}


def _parameters(pairs: Sequence[tuple[str, object]], faults: tuple[Fault, ...]) -> object:
    if not pairs or first(faults, Kind.NO_METADATA) is not None:
        return None
    items: list[JsonObject] = [{"Key": key, "Value": _amount(value, faults)} if key.endswith("Amount") else
                               {"Key": key, "Value": value} for key, value in pairs]  # fmt: skip
    if first(faults, Kind.REORDERED) is not None:
        items.reverse()
    return items[0] if first(faults, Kind.SINGLE_OBJECT) is not None or len(items) == 1 else items


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompted:
    """What became of a prompt."""

    merchant_request: str
    checkout_request: str
    code: str
    amount: int = 0
    receipt: str = ""
    completed: str = ""
    msisdn: str = ""

    def body(self, faults: tuple[Fault, ...]) -> JsonObject:
        """Return the body of the callback. It has no reference: the request's id is the only link."""
        callback: JsonObject = {
            "MerchantRequestID": self.merchant_request,
            "CheckoutRequestID": self.checkout_request,
            "ResultCode": _code(self.code, faults, is_text=False),
            "ResultDesc": text_of(self.code),
        }
        if self.code == "0" and first(faults, Kind.NO_METADATA) is None:
            callback["CallbackMetadata"] = {"Item": self._items(faults)}
        return {"Body": {"stkCallback": callback}}

    def _items(self, faults: tuple[Fault, ...]) -> list[JsonObject]:
        items: list[JsonObject] = [
            {"Name": "Amount", "Value": _amount(self.amount, faults)},
            {"Name": "MpesaReceiptNumber", "Value": self.receipt},
            {"Name": "Balance"},
            {"Name": "TransactionDate", "Value": int(self.completed)},
        ]
        if first(faults, Kind.MASKED) is not None:
            items.append({"Name": "PhoneNumber", "Value": phones.masked(self.msisdn)})
        elif first(faults, Kind.NO_PHONE) is None:
            items.append({"Name": "PhoneNumber", "Value": int(self.msisdn)})
        if first(faults, Kind.REORDERED) is not None:
            items.reverse()
        return items


def _code(code: str, faults: tuple[Fault, ...], *, is_text: bool) -> object:
    chosen = first(faults, Kind.CODE_TEXT, Kind.CODE_NUMBER)
    is_text = is_text if chosen is None else chosen.kind is Kind.CODE_TEXT
    return code if is_text or not code.isdigit() else int(code)


def _amount(value: object, faults: tuple[Fault, ...]) -> object:
    chosen = first(faults, Kind.AMOUNT_TEXT, Kind.AMOUNT_DECIMAL)
    if chosen is None:
        return value
    written = f"{value}.00"
    return written if chosen.kind is Kind.AMOUNT_TEXT else f"{EXACT}{written}"
