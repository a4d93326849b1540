"""What a saga asks of the ledger's steps, what they reject, and what they report of an undo. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from chassis.saga.triggers import SagaTrigger, StepRequest
from ledger.model.payment_books import PaymentRequest
from ledger.model.sacco_books import Done, SaccoRequest
from ledger.model.sacco_books import Outcome as SaccoOutcome
from ledger.model.transfers import Booked, Entry, NotBooked, Origin, Outcome, Reason, Refused, Transfer, reference_of
from messages.contract import Envelope, Message, name_of
from messages.ledger import (
    CorrectManualPosting,
    LedgerReversed,
    ManualPostingCorrected,
    ManualPostingVoided,
    ReverseLedger,
    VoidManualPosting,
)

POST_LEDGER: Final = "post_ledger"
HOLD_MANUAL_POSTING: Final = "hold_manual_posting"
POST_MANUAL_POSTING: Final = "post_manual_posting"
NOTHING_MORE: Final[Mapping[str, Any]] = {}
UNNAMED: Final = ""
"""The reference of a transfer until its step names it."""

REJECTIONS: Final = frozenset(
    {
        Reason.INSUFFICIENT_FUNDS,
        Reason.LIMIT_EXCEEDED,
        Reason.ACCOUNT_UNKNOWN,
        Reason.ACCOUNT_CLOSED,
        Reason.CURRENCY_MISMATCH,
        Reason.UNBALANCED,
        Reason.AMOUNT_OUT_OF_RANGE,
        Reason.HOLD_EXPIRED,
        Reason.HOLD_RESOLVED,
    }
)
"""What the business may reject. HOLD_RESOLVED is a hold that has expired: nothing else resolves a saga's hold before
its own step does. Any other reason is a defect: the step is retried, and then it waits for a person."""

PAYMENT_REJECTIONS: Final = frozenset(
    {
        Reason.AMOUNT_OUT_OF_RANGE,
        Reason.PAYMENT_NOT_CAPTURED,
        Reason.CAPTURED_EXCEEDED,
        Reason.ACCOUNT_CLOSED,
        Reason.INSUFFICIENT_FUNDS,
        Reason.LIMIT_EXCEEDED,
    }
)
"""What may be rejected of a merchant's payment or refund. An account that is not open is a merchant whose onboarding
is missing: a person sees to that, and no payment fails for it."""

Trigger = TypeVar("Trigger", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookTransfer(StepRequest):
    """Book one transfer, which has the step's reference and origin."""

    transfer: Transfer


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenMerchantAccounts(StepRequest):
    """Open a merchant's accounts: in both modes, and in each of its currencies."""

    merchant_id: str
    currencies: tuple[str, ...]


def transfer_trigger(
    *,
    saga: str,
    versions: tuple[int, ...],
    on: type[Trigger],
    transfer: Callable[[Trigger], Transfer],
    succeeded: Callable[[Trigger, Envelope], Message],
    succeeds_with: type[Message],
    rejected_with: type[Message] | None = None,
) -> SagaTrigger[Trigger, BookTransfer, Outcome]:
    """Return the trigger of a step that books ``transfer`` of a saga's event.

    A rejection has the fields ``reason``, a code such as ``insufficient_funds``, and ``detail``. The trigger raises
    NotBooked for a refusal that is none.
    """

    def requested(event: Trigger, step: str) -> BookTransfer:
        origin = Origin(saga_id=event.saga_id, step=step, message_id=event.message_id)
        named = replace(transfer(event), reference=reference_of(event.saga_id, step), origin=origin)
        return BookTransfer(saga_id=event.saga_id, step=step, transfer=named)

    def published(event: Trigger, outcome: Outcome, envelope: Envelope) -> Message:
        if isinstance(outcome, Booked):
            return succeeded(event, envelope)
        if rejected_with is None or outcome.reason not in REJECTIONS:
            raise not_booked(f"What {name_of(on)} of {event.saga_id} books", outcome)
        return rejected_with.from_record({**envelope, "reason": outcome.reason.lower(), "detail": outcome.detail})

    return SagaTrigger(
        saga=saga,
        versions=versions,
        on=on,
        read=requested,
        publish=published,
        succeeds_with=succeeds_with,
        rejected_with=rejected_with,
    )


def not_booked(what: str, refused: Refused) -> NotBooked:
    """Return the error about a transfer that was refused although it is no rejection."""
    return NotBooked(f"{what} was refused: {refused.reason}. {refused.detail}")


def payment_trigger(
    *,
    saga: str,
    on: type[Trigger],
    read: Callable[[Trigger, str], PaymentRequest],
    succeeds_with: type[Message],
    rejected_with: type[Message] | None = None,
) -> SagaTrigger[Trigger, Any, Outcome]:
    """Return the trigger of a step that books for a merchant's payment.

    Its success carries what the event has of its fields. A rejection has ``reason`` and ``detail`` as well. The trigger
    raises NotBooked for a refusal that is none.
    """

    def published(event: Trigger, outcome: Outcome, envelope: Envelope) -> Message:
        if isinstance(outcome, Booked):
            return succeeds_with.from_record({**event.to_record(), **envelope})
        if rejected_with is None or outcome.reason not in PAYMENT_REJECTIONS:
            raise not_booked(f"What {name_of(on)} of {event.saga_id} books", outcome)
        why = {"reason": outcome.reason.lower(), "detail": outcome.detail}
        return rejected_with.from_record({**event.to_record(), **envelope, **why})

    return SagaTrigger(
        saga=saga,
        versions=(1,),
        on=on,
        read=read,
        publish=published,
        succeeds_with=succeeds_with,
        rejected_with=rejected_with,
    )


def sacco_trigger(
    *,
    saga: str,
    on: type[Trigger],
    read: Callable[[Trigger, str], SaccoRequest],
    succeeds_with: type[Message],
    rejected_with: type[Message] | None = None,
    more: Mapping[str, Any] = NOTHING_MORE,
    restore: Callable[[Any], Done] | None = None,
) -> SagaTrigger[Trigger, Any, SaccoOutcome]:
    """Return the trigger of a step that books for a SACCO's members.

    Its success carries what the event has of its fields, ``more``, and what was decided. A rejection has ``reason`` and
    ``detail`` as well. The trigger raises NotBooked for a rejection of a step that has none.
    """

    def published(event: Trigger, outcome: SaccoOutcome, envelope: Envelope) -> Message:
        record = {**more, **event.to_record(), **envelope}
        if isinstance(outcome, Done):
            return succeeds_with.from_record({**record, **outcome.fields})
        if rejected_with is None:
            raise NotBooked(f"What {name_of(on)} of {event.saga_id} books was refused: {outcome.detail}")
        return rejected_with.from_record({**record, "reason": outcome.reason, "detail": outcome.detail})

    return SagaTrigger(
        saga=saga,
        versions=(1,),
        on=on,
        read=read,
        publish=published,
        succeeds_with=succeeds_with,
        rejected_with=rejected_with,
        restore=restore,
    )


def reversed_(command: ReverseLedger, undo: bool, entries: Sequence[Entry], envelope: Envelope) -> LedgerReversed:
    """Report that a posting is corrected. Without ``undo`` there is nothing to correct, or it is already."""
    amount_minor = sum(max(entry.amount_minor, 0) for entry in entries)
    return LedgerReversed(**envelope, step=command.step, undone=undo, amount_minor=amount_minor)


def manually_voided(
    command: VoidManualPosting, undo: bool, _entries: Sequence[Entry], envelope: Envelope
) -> ManualPostingVoided:
    """Report that nothing is held for a manual posting any more."""
    return ManualPostingVoided(**envelope, step=command.step, undone=undo)


def manually_corrected(
    command: CorrectManualPosting, undo: bool, _entries: Sequence[Entry], envelope: Envelope
) -> ManualPostingCorrected:
    """Report that a manual posting is corrected."""
    return ManualPostingCorrected(**envelope, step=command.step, undone=undo)
