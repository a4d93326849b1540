"""The ledger's handlers."""

from __future__ import annotations

from chassis.saga.steps import Compensation, Handler, Step
from ledger.domain import post, reverse
from ledger.tables import load_nothing, load_posted, save_journal
from messages.ledger import LedgerPosted, LedgerReversed, ReverseLedger
from messages.payment import PaymentCaptured

HANDLERS: tuple[Handler, ...] = (
    Step(
        name="post_ledger",
        on=PaymentCaptured,
        load=load_nothing,
        decide=post,
        save=save_journal,
        succeeds_with=LedgerPosted,
        rejected_with=None,
        compensation=Compensation(
            on=ReverseLedger,
            undoes=("post_ledger",),
            load=load_posted,
            decide=reverse,
            save=save_journal,
            replies=(LedgerReversed,),
        ),
    ),
)
