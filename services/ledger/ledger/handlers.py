"""The ledger's handlers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from chassis.saga.steps import Handler, Reaction
from ledger import domain, late_captures
from ledger.merchant_steps import OTHER_SAGA, RELEASE, merchant_step, on_step_awaited, open_merchant_accounts
from ledger.model.dividends import DECLARE_DIVIDEND, POST_DIVIDENDS
from ledger.model.payment_books import COMMIT_LEDGER, POST_REVERSAL, POST_SETTLEMENT, RESERVE_BALANCE
from ledger.model.payouts import COMMIT_PAYOUT, PLACE_HOLD, POST_REPAYMENT
from ledger.model.receipts import COMMIT_RETURN, HOLD_RETURN, POST_ALLOCATION, RECORD_RECEIPT
from ledger.sacco_steps import RELEASE_HOLD, RELEASE_RETURN, measure_day, open_member_accounts, sacco_step
from ledger.sagas import (
    capture_later,
    dividend_chunk,
    dividend_payout,
    dividend_run,
    end_of_day,
    loan_disbursement,
    loan_repayment,
    manual_posting,
    member_onboarding,
    merchant_onboarding,
    order,
    payment,
    payment_reversal,
    receipt,
    refund,
    return_order,
    return_receipt,
    settlement,
    suspense_allocation,
    void_payment,
    withdrawal,
)
from ledger.steps import Undo, booking
from ledger.store import manual_postings
from ledger.store.manual_postings import Proposal
from messages.ledger import (
    CorrectManualPosting,
    LedgerReversed,
    ManualPostingApproved,
    ManualPostingCorrected,
    ManualPostingVoided,
    ReverseLedger,
    VoidManualPosting,
)
from messages.merchant import CaptureRequested
from messages.saga import CaptureFailed, ManualPostingConfirmed, ManualPostingFailed, StepAwaited


def on_manual_posting_approved(events: Sequence[ManualPostingApproved], tx: Connection) -> None:
    """Record approvals that a restored database lacks; any other one has them already."""
    for event in events:
        proposal = Proposal(
            posting_id=event.saga_id,
            key=event.saga_id,
            entries=manual_posting.entries_of(event),
            effective_at=event.effective_at,
            reason=event.reason,
            proposed_by=event.proposed_by,
            proposed_at=event.proposed_at,
        )
        manual_postings.record_approval(
            proposal,
            tx,
            approved_by=event.approved_by,
            approved_at=event.occurred_at,
            approval_reason=event.approval_reason,
        )


def on_manual_posting_confirmed(events: Sequence[ManualPostingConfirmed], tx: Connection) -> None:
    """Record that these manual postings are posted."""
    for event in events:
        manual_postings.end(event.saga_id, "POSTED", None, tx, at=event.occurred_at)


def on_manual_posting_failed(events: Sequence[ManualPostingFailed], tx: Connection) -> None:
    """Record why these manual postings were not posted."""
    for event in events:
        manual_postings.end(event.saga_id, "FAILED", event.reason, tx, at=event.occurred_at)


HANDLERS: tuple[Handler, ...] = (
    booking(
        domain.POST_LEDGER,
        triggers=(order.POSTING, return_order.POSTING),
        undo=Undo(on=ReverseLedger, reply=domain.reversed_, replies_with=LedgerReversed),
    ),
    booking(
        domain.HOLD_MANUAL_POSTING,
        triggers=(manual_posting.HOLDING,),
        undo=Undo(on=VoidManualPosting, reply=domain.manually_voided, replies_with=ManualPostingVoided, is_void=True),
    ),
    booking(
        domain.POST_MANUAL_POSTING,
        triggers=(manual_posting.POSTING,),
        undo=Undo(on=CorrectManualPosting, reply=domain.manually_corrected, replies_with=ManualPostingCorrected),
    ),
    merchant_step(RESERVE_BALANCE, triggers=(payment.RESERVING, refund.RESERVING), compensation=RELEASE),
    merchant_step(
        COMMIT_LEDGER,
        triggers=(payment.COMMITTING, capture_later.COMMITTING, void_payment.COMMITTING, refund.COMMITTING),
    ),
    merchant_step(POST_REVERSAL, triggers=(payment_reversal.POSTING,), retry=OTHER_SAGA),
    merchant_step(POST_SETTLEMENT, triggers=(settlement.POSTING,)),
    open_merchant_accounts(triggers=(merchant_onboarding.OPENING,)),
    open_member_accounts(triggers=(member_onboarding.OPENING,)),
    sacco_step(RECORD_RECEIPT, triggers=(receipt.RECORDING,)),
    sacco_step(POST_ALLOCATION, triggers=(receipt.ALLOCATING, suspense_allocation.ALLOCATING), is_restored=True),
    sacco_step(
        PLACE_HOLD,
        triggers=(withdrawal.HOLDING, loan_disbursement.HOLDING, dividend_payout.HOLDING),
        compensation=RELEASE_HOLD,
    ),
    sacco_step(
        COMMIT_PAYOUT, triggers=(withdrawal.COMMITTING, loan_disbursement.COMMITTING, dividend_payout.COMMITTING)
    ),
    sacco_step(POST_REPAYMENT, triggers=(loan_repayment.POSTING,), is_restored=True),
    sacco_step(HOLD_RETURN, triggers=(return_receipt.HOLDING,), compensation=RELEASE_RETURN),
    sacco_step(COMMIT_RETURN, triggers=(return_receipt.COMMITTING,)),
    sacco_step(DECLARE_DIVIDEND, triggers=(dividend_run.DECLARING,)),
    sacco_step(POST_DIVIDENDS, triggers=(dividend_chunk.POSTING,)),
    measure_day(triggers=(end_of_day.MEASURING,)),
    Reaction(on=StepAwaited, sagas=payment.SAGAS | capture_later.SAGAS, apply=on_step_awaited),
    Reaction(on=CaptureRequested, sagas=capture_later.SAGAS, apply=late_captures.on_capture_requested),
    Reaction(on=CaptureFailed, sagas=capture_later.SAGAS, apply=late_captures.on_capture_failed),
    Reaction(on=ManualPostingApproved, sagas=manual_posting.SAGAS, apply=on_manual_posting_approved),
    Reaction(on=ManualPostingConfirmed, sagas=manual_posting.SAGAS, apply=on_manual_posting_confirmed),
    Reaction(on=ManualPostingFailed, sagas=manual_posting.SAGAS, apply=on_manual_posting_failed),
)
