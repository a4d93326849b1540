"""What a callback, an answer or a row of a statement reports, whichever provider it came from. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from mobile_money.codes import Code


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """Money came in. ``prompt_id`` is the provider's id of the prompt that it pays, where it names one.

    ``payer`` is a phone, a hash of one, or a mask.
    """

    receipt: str
    amount_minor: int
    completed_at: datetime
    short_code: str | None = None
    reference: str | None = None
    payer: str | None = None
    prompt_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptEnd:
    """A prompt has ended without a payment."""

    prompt_id: str
    code: Code
    value: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What became of a payout or a reversal.

    ``own_id`` is our id of the attempt, ``question_id`` the provider's id of the query that this answers.
    ``float_minor`` is what is left on the account that pays.
    """

    code: Code
    value: str
    text: str
    own_id: str | None = None
    question_id: str | None = None
    receipt: str | None = None
    amount_minor: int | None = None
    completed_at: datetime | None = None
    phone: str | None = None
    short_code: str | None = None
    float_minor: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Balances:
    """The balances of a short code. ``charges_minor`` is what we owe, as a positive amount."""

    question_id: str | None
    utility_minor: int | None
    working_minor: int | None
    charges_minor: int | None
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """A request has waited in a queue for too long. Nothing is known of it."""

    own_id: str | None


Report: TypeAlias = Payment | PromptEnd | End | Balances | Queued
