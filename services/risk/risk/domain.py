"""What risk decides: whether a payment may go on, with a score, its reasons and the version of the rules. Pure."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from chassis.saga.triggers import StepKey, StepRequest
from messages.contract import Envelope
from messages.risk import ValidationWithdrawn, WithdrawValidation
from risk.rules import Evaluated, Fact, OnUndecided, RuleSet

WINDOWS: Final[Mapping[str, int]] = {"10m": 10, "1h": 60, "24h": 24 * 60}
"""The sliding windows in minutes. A window moves by whole minutes, and the minute of the payment is its last one."""
UNREADABLE: Final = "rules"
"""What stands for a rule where a stored version of the rules cannot be read by this release."""


class SubjectKind(enum.StrEnum):
    """Whose payments are counted."""

    PAYER = "payer"
    MERCHANT = "merchant"


class BlockKind(enum.StrEnum):
    """What a block list names. A payment method is of a type that its token begins with."""

    PAYER = "payer"
    MERCHANT = "merchant"
    PAYMENT_METHOD_TYPE = "payment_method_type"


class ValidationState(enum.StrEnum):
    """A validated payment is counted until it is withdrawn; a blocked one never was."""

    COUNTED = "COUNTED"
    BLOCKED = "BLOCKED"
    WITHDRAWN = "WITHDRAWN"


Subject: TypeAlias = tuple[SubjectKind, str, bool]
"""Whose payments: the kind, its id, and whether in live mode."""
Bucket: TypeAlias = tuple[SubjectKind, str, bool, str, datetime]
"""A subject's payments in one currency in one minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidatePayment(StepRequest):
    """Decide whether a payment that was submitted at ``submitted_at`` may go on."""

    payment_id: int
    merchant_id: str
    is_live: bool
    currency: str
    amount_minor: int
    gateway_account: str
    capture: str
    payment_method: str
    payer: str
    submitted_at: datetime

    @property
    def subjects(self) -> tuple[Subject, Subject]:
        """Whose counters it is in."""
        return (SubjectKind.PAYER, self.payer, self.is_live), (SubjectKind.MERCHANT, self.merchant_id, self.is_live)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided. ``is_undecided`` where a rule had no answer, whatever was then done."""

    reason: str | None
    detail: str
    score: int
    signals: tuple[str, ...]
    rules_version: str
    is_undecided: bool = False

    @property
    def is_blocked(self) -> bool:
        """Whether the payment ends here."""
        return self.reason is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A decided payment as it is stored."""

    request: ValidatePayment
    decision: Decision

    @property
    def state(self) -> ValidationState:
        """The state of its row."""
        return ValidationState.BLOCKED if self.decision.is_blocked else ValidationState.COUNTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A payment that is in the counters."""

    key: StepKey
    subjects: tuple[Subject, Subject]
    currency: str
    amount_minor: int
    submitted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The payments of a subject in one window, and their sum in the payment's currency, without the payment itself."""

    payments: int = 0
    amount_minor: int = 0


@dataclass(slots=True, kw_only=True)
class Validations:
    """What a batch of payments is decided by, and what it changes.

    ``windows`` are the counters as they were before the batch, by saga and step, kind of subject and name of window.
    ``rules`` is None where the active version cannot be read; then ``on_undecided`` decides.
    """

    rules: RuleSet | None
    rules_version: str
    on_undecided: OnUndecided
    windows: Mapping[tuple[StepKey, SubjectKind, str], Window] = field(default_factory=dict)
    blocks: Sequence[tuple[BlockKind, str]] = ()
    decided: list[Validation] = field(default_factory=list)

    def counters(self, request: ValidatePayment) -> dict[str, Fact]:
        """Return the facts of the request's windows, the payments of this batch so far included."""
        facts: dict[str, Fact] = {}
        for subject in request.subjects:
            earlier = [each.request for each in self.decided if each.state is ValidationState.COUNTED]
            earlier = [each for each in earlier if subject in each.subjects]
            for name, minutes in WINDOWS.items():
                stored = self.windows.get((request.key, subject[0], name), Window())
                inside = [each for each in earlier if is_inside(each.submitted_at, request.submitted_at, minutes)]
                same = sum(each.amount_minor for each in inside if each.currency == request.currency)
                facts[f"{subject[0]}_payments_{name}"] = stored.payments + len(inside)
                facts[f"{subject[0]}_amount_{name}"] = stored.amount_minor + same
        return facts

    def blocked_by(self, request: ValidatePayment) -> BlockKind | None:
        """Return the block list that names the payment, or None."""
        for kind, value in self.blocks:
            if kind is BlockKind.PAYER and value == request.payer:
                return kind
            if kind is BlockKind.MERCHANT and value == request.merchant_id:
                return kind
            if kind is BlockKind.PAYMENT_METHOD_TYPE and request.payment_method.startswith(value):
                return kind
        return None


@dataclass(slots=True, kw_only=True)
class Withdrawals:
    """The counted payments of a batch of withdrawals, and those that are withdrawn."""

    counted: Mapping[StepKey, Counted]
    withdrawn: list[Counted] = field(default_factory=list)


def minute_of(at: datetime) -> datetime:
    """Return the minute in which a time is."""
    return at.replace(second=0, microsecond=0)


def is_inside(at: datetime, end: datetime, minutes: int) -> bool:
    """Return whether a time is in the window of so many minutes that ends with the minute of ``end``."""
    return minute_of(end) - timedelta(minutes=minutes) < minute_of(at) <= minute_of(end)


def validate(request: ValidatePayment, batch: Validations, _envelope: Envelope) -> Decision:
    """Decide about a payment, and count it where it may go on."""
    decision = decided(request, batch)
    batch.decided.append(Validation(request=request, decision=decision))
    return decision


def decided(request: ValidatePayment, batch: Validations) -> Decision:
    """Return the decision: block lists, then limits, then the rules. All of them are evaluated for the signals."""
    if batch.rules is None:
        found = Evaluated(matched=(), undecided=(UNREADABLE,), blocking=None, score=0)
        limit, block_score = None, None
    else:
        found = batch.rules.evaluate(_facts(request, batch))
        limit = batch.rules.limit(request.currency, request.merchant_id)
        block_score = batch.rules.document.block_score
    listed = batch.blocked_by(request)
    reason, detail = None, "It passed the lists, the limits and the rules."
    if listed is not None:
        reason, detail = f"blocked_{listed}", f"Its {listed.replace('_', ' ')} is on a block list."
    elif limit is not None and request.amount_minor > limit:
        reason = "limit_exceeded"
        detail = f"{request.amount_minor} is above the limit of {limit} for one payment in {request.currency}."
    elif found.blocking is not None:
        reason, detail = "rule", f"The rule {found.blocking} blocks it."
    elif block_score is not None and found.score >= block_score:
        reason, detail = "score", f"Its score {found.score} is at least {block_score}."
    elif found.undecided and batch.on_undecided is OnUndecided.BLOCK:
        reason, detail = "undecided", f"{', '.join(found.undecided)} could not be evaluated; such payments are blocked."
    elif found.undecided:
        detail = f"{', '.join(found.undecided)} could not be evaluated; such payments are allowed."
    return Decision(
        reason=reason,
        detail=detail,
        score=found.score,
        signals=_signals(found, reason if listed or reason == "limit_exceeded" else None),
        rules_version=batch.rules_version,
        is_undecided=bool(found.undecided),
    )


def withdraw(command: WithdrawValidation, undo: bool, rows: Withdrawals, envelope: Envelope) -> ValidationWithdrawn:
    """Take the payment out of the counters. Without ``undo`` it is in none, or is withdrawn already."""
    if undo:
        rows.withdrawn.append(rows.counted[command.saga_id, command.step])
    return ValidationWithdrawn(**envelope, step=command.step, undone=undo)


def restored(request: ValidatePayment, batch: Validations, published: Decision) -> Decision:
    """Take over what was published: lists and rules may have changed since, and no row says how they were."""
    batch.decided.append(Validation(request=request, decision=published))
    return published


def changes(counted: Sequence[Counted], sign: int) -> Mapping[Bucket, tuple[int, int]]:
    """Return by how many payments and by which amount these change each bucket."""
    payments: Counter[Bucket] = Counter()
    amounts: Counter[Bucket] = Counter()
    for each in counted:
        for kind, subject, is_live in each.subjects:
            bucket = kind, subject, is_live, each.currency, minute_of(each.submitted_at)
            payments[bucket] += sign
            amounts[bucket] += sign * each.amount_minor
    return {bucket: (payments[bucket], amounts[bucket]) for bucket in sorted(payments)}


def counted(validation: Validation) -> Counted:
    """Return a validated payment as the counters have it."""
    request = validation.request
    return Counted(
        key=request.key,
        subjects=request.subjects,
        currency=request.currency,
        amount_minor=request.amount_minor,
        submitted_at=request.submitted_at,
    )


def _facts(request: ValidatePayment, batch: Validations) -> dict[str, Fact]:
    own: dict[str, Fact] = {
        "amount_minor": request.amount_minor,
        "currency": request.currency,
        "capture": request.capture,
        "is_live": request.is_live,
        "merchant_id": request.merchant_id,
        "payment_method": request.payment_method,
        "gateway_account": request.gateway_account,
        "hour_utc": request.submitted_at.hour,
    }
    return own | batch.counters(request)


def _signals(found: Evaluated, first: str | None) -> tuple[str, ...]:
    return (*([first] if first else []), *found.matched, *(f"undecided:{name}" for name in found.undecided))
