"""Mobile money's handlers."""

from __future__ import annotations

from chassis.saga.steps import Handler, Reaction
from mobile_money import closed_references, days, dividends
from mobile_money.reactions import REACTIONS
from mobile_money.registry import Providers
from mobile_money.sagas import loan_ends
from mobile_money.steps import steps


def handlers(providers: Providers) -> tuple[Handler, ...]:
    """Return the service's handlers, which call these providers."""
    return (
        *steps(providers),
        *dividends.handlers(providers),
        *days.HANDLERS,
        *(
            Reaction(on=event, sagas=frozenset({(saga, 1)}), apply=closed_references.on_allocated)
            for event, saga in loan_ends.EVENTS
        ),
        *REACTIONS,
    )
