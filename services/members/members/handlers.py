"""Members's handlers: the step that attributes receipts, and the reactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from chassis.saga.steps import Besides, Handler, Reaction, Step
from members import attributing, attribution, collecting, reactions, run_reactions
from members.attribution import ATTRIBUTE_RECEIPT
from members.sagas import receipt
from messages.ledger import (
    AssignedReceiptAllocated,
    PayoutCommitted,
    ReceiptAllocated,
    RepaymentPosted,
    ReturnCommitted,
)
from messages.mobile_money import PromptFailed, PromptPaid
from messages.saga import (
    CollectionCompleted,
    CollectionFailed,
    DividendChunkCompleted,
    DividendChunkFailed,
    DividendPayoutCompleted,
    DividendPayoutFailed,
    DividendRunCompleted,
    DividendRunFailed,
    DividendWaveCompleted,
    DividendWaveFailed,
    LoanDisbursementCompleted,
    LoanDisbursementFailed,
    LoanRepaymentCompleted,
    LoanRepaymentFailed,
    MemberOnboarded,
    MemberOnboardingFailed,
    ReceiptReturnCompleted,
    ReceiptReturnFailed,
    StepAwaited,
    SuspenseAllocationCompleted,
    SuspenseAllocationFailed,
    WithdrawalCompleted,
    WithdrawalFailed,
)

PAYOUTS: Final = ("withdrawal", "loan_disbursement", "dividend_payout")

Apply = Callable[..., Besides]
REACTIONS: Final[tuple[tuple[type[Any], tuple[str, ...], Apply], ...]] = (
    (MemberOnboarded, ("member_onboarding",), reactions.on_member_onboarded),
    (MemberOnboardingFailed, ("member_onboarding",), reactions.on_member_onboarding_failed),
    (StepAwaited, ("collection",), collecting.on_step_awaited),
    (PromptPaid, ("collection",), collecting.on_prompt_paid),
    (PromptFailed, ("collection",), collecting.on_prompt_failed),
    (CollectionCompleted, ("collection",), reactions.pass_over),
    (CollectionFailed, ("collection",), collecting.on_collection_failed),
    (ReceiptAllocated, ("receipt",), reactions.on_receipt_allocated),
    (AssignedReceiptAllocated, ("suspense_allocation",), reactions.on_assigned_receipt_allocated),
    (SuspenseAllocationCompleted, ("suspense_allocation",), reactions.pass_over),
    (SuspenseAllocationFailed, ("suspense_allocation",), reactions.on_suspense_allocation_failed),
    (PayoutCommitted, PAYOUTS, reactions.on_payout_committed),
    (WithdrawalCompleted, ("withdrawal",), reactions.pass_over),
    (WithdrawalFailed, ("withdrawal",), reactions.on_withdrawal_failed),
    (LoanDisbursementCompleted, ("loan_disbursement",), reactions.pass_over),
    (LoanDisbursementFailed, ("loan_disbursement",), reactions.on_loan_disbursement_failed),
    (DividendPayoutCompleted, ("dividend_payout",), reactions.pass_over),
    (DividendPayoutFailed, ("dividend_payout",), reactions.on_dividend_payout_failed),
    (RepaymentPosted, ("loan_repayment",), reactions.on_repayment_posted),
    (LoanRepaymentCompleted, ("loan_repayment",), reactions.pass_over),
    (LoanRepaymentFailed, ("loan_repayment",), reactions.on_loan_repayment_failed),
    (ReturnCommitted, ("return_receipt",), reactions.on_return_committed),
    (ReceiptReturnCompleted, ("return_receipt",), reactions.pass_over),
    (ReceiptReturnFailed, ("return_receipt",), reactions.on_receipt_return_failed),
    (DividendRunCompleted, ("dividend_run",), run_reactions.on_dividend_run_completed),
    (DividendRunFailed, ("dividend_run",), run_reactions.on_dividend_run_failed),
    (DividendChunkCompleted, ("dividend_chunk",), run_reactions.on_dividend_chunk_completed),
    (DividendChunkFailed, ("dividend_chunk",), run_reactions.on_dividend_chunk_failed),
    (DividendWaveCompleted, ("dividend_wave",), run_reactions.on_dividend_wave_completed),
    (DividendWaveFailed, ("dividend_wave",), run_reactions.on_dividend_wave_failed),
)
"""Each event, the sagas that it belongs to, and what is noted of it."""

HANDLERS: tuple[Handler, ...] = (
    Step(
        name=ATTRIBUTE_RECEIPT,
        triggers=(receipt.ATTRIBUTION,),
        load=attributing.load,
        decide=attribution.attribute,
        save=attributing.save,
        compensation=None,
        restore=attribution.restored,
        lock=attributing.lock,
    ),
    *(
        Reaction(on=event, sagas=frozenset((saga, 1) for saga in sagas), apply=apply)
        for event, sagas, apply in REACTIONS
    ),
)
