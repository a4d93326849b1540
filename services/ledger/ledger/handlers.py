"""The ledger's handlers."""

from __future__ import annotations

from chassis.saga.steps import Compensation, Handler, Step
from ledger.domain import post, reverse
from ledger.tables import load_postings, load_reversals, save_loaded
from messages.ledger import LedgerPosted, LedgerReversed, ReverseLedger
from messages.payment import PaymentCaptured

HANDLERS: tuple[Handler, ...] = (
    Step(
        name="post_ledger",
        on=PaymentCaptured,
        load=load_postings,
        decide=post,
        save=save_loaded,
        succeeds_with=LedgerPosted,
        rejected_with=None,
        compensation=Compensation(
            on=ReverseLedger,
            undoes=("post_ledger",),
            load=load_reversals,
            decide=reverse,
            save=save_loaded,
            replies=(LedgerReversed,),
        ),
    ),
)
