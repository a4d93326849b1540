"""The port to a provider of mobile money: what is requested of it, and what it can promise. Pure.

The promises differ, so each adapter states them: nothing outside of it may rely on more.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from chassis.saga.answers import QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from chassis.values.json_text import compact

TEXT_LENGTH_MAX = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider promises about one kind of request.

    ``has_key``: a request carries an id of ours. ``repeat_is_safe``: the same request again is carried out once.
    ``repeat_proves_arrival``: its refusal as a duplicate proves that the first one arrived. ``ask_by_own_key``: it is
    found by our id. ``answer_is_final``: the answer to the request is its outcome. ``callback_repeats``: an unanswered
    callback comes again. ``not_found_is_proof``: what a query does not find was never taken. ``reversible``: a call
    takes it back. ``lookback_s``: for how long incoming payments are listed afterwards; 0: never.
    """

    has_key: bool
    repeat_is_safe: bool
    repeat_proves_arrival: bool
    ask_by_own_key: bool
    answer_is_final: bool
    callback_is_authentic: bool
    callback_repeats: bool
    not_found_is_proof: bool
    reversible: bool
    lookback_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """Prompt a phone to pay this amount. ``reference`` is what the payment will carry."""

    short_code: str
    phone: str
    amount_minor: int
    currency: str
    reference: str
    requested_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """Pay this amount to a phone, from the lane of members or of dividends."""

    short_code: str
    phone: str
    amount_minor: int
    currency: str
    lane: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """Return this receipt to its payer."""

    short_code: str
    receipt: str
    amount_minor: int
    currency: str
    collected_as: str | None = None
    """Our id of the prompt that the receipt has paid, as the provider has it; None: no prompt of ours brought it."""


Requested: TypeAlias = Prompt | Payout | Reversal


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An incoming payment as a provider lists it afterwards. ``payer`` is a phone, a hash of one, or a mask."""

    receipt: str
    amount_minor: int
    completed_at: datetime
    reference: str | None
    payer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list of payments, and where the next one begins; None: this is the last."""

    payments: tuple[Listed, ...]
    next_offset: int | None


class Provider(Protocol):
    """One short code at a provider. All raise ``chassis.http.downstream.Unavailable`` where nothing is known."""

    def capabilities(self, request: Requested) -> Capabilities: ...

    def send(self, request: Requested, key: str) -> SendAnswer: ...

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer: ...

    def own_id(self, key: str) -> str:
        """Return our id of an attempt as the provider has it."""
        ...

    def query_receipt(self, receipt: str) -> None:
        """Ask for the state of an incoming payment. The answer comes by callback."""
        ...

    def query_balance(self) -> None:
        """Ask for the balances. The answer comes by callback, or is kept as one."""
        ...

    def register(self) -> None:
        """Tell the provider where confirmations of payments go, and that they are listed. Again is no error."""
        ...

    def pull(self, begins_at: datetime, ends_at: datetime, offset: int) -> Page:
        """Return a page of the incoming payments of this time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What a success says. ``completed_at`` is None where the provider does not say it."""

    receipt: str
    amount_minor: int
    completed_at: datetime | None
    charge_minor: int = 0

    @property
    def detail(self) -> str:
        """The success as compact JSON: kept once for each receipt, so that every door has the same text."""
        completed = None if self.completed_at is None else self.completed_at.isoformat()
        return compact(
            {
                "amount_minor": self.amount_minor,
                "charge_minor": self.charge_minor,
                "completed_at": completed,
                "receipt": self.receipt,
            }
        )

    @classmethod
    def of(cls, detail: str | None) -> Paid | None:
        """Return what a ``detail`` says; None where it says nothing of a success."""
        read = _read(detail)
        receipt, amount, charge = read.get("receipt"), read.get("amount_minor"), read.get("charge_minor", 0)
        completed = read.get("completed_at")
        if not isinstance(receipt, str) or not isinstance(amount, int) or not isinstance(charge, int):
            return None
        at = datetime.fromisoformat(completed) if isinstance(completed, str) else None
        return cls(receipt=receipt, amount_minor=amount, completed_at=at, charge_minor=charge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """What a failure says. ``reason`` is our name of the provider's ``code``."""

    reason: str
    code: str = ""
    text: str = ""

    @property
    def detail(self) -> str:
        """The failure as compact JSON."""
        shown = {"code": self.code, "reason": self.reason, "text": self.text[:TEXT_LENGTH_MAX]}
        return compact(shown)

    @classmethod
    def of(cls, detail: str | None, outcome: Outcome) -> Refused:
        """Return what a ``detail`` says of a failure; a statement without the attempt says that nothing arrived."""
        read = _read(detail)
        default = "never_arrived" if outcome is Outcome.ABSENT else "unknown"
        reason, code, text = read.get("reason"), read.get("code"), read.get("text")
        return cls(
            reason=reason if isinstance(reason, str) and reason else default,
            code=code if isinstance(code, str) else "",
            text=text if isinstance(text, str) else "",
        )


def _read(detail: str | None) -> dict[str, Any]:
    try:
        read = json.loads(detail) if detail else {}
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
