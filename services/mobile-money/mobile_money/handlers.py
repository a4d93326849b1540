"""Mobile money's handlers."""

from __future__ import annotations

from chassis.saga.steps import Handler
from mobile_money import closed_references, days, dividends
from mobile_money.reactions import REACTIONS
from mobile_money.registry import Providers
from mobile_money.steps import steps


def handlers(providers: Providers) -> tuple[Handler, ...]:
    """Return the service's handlers, which call these providers."""
    return (
        *steps(providers),
        *dividends.handlers(providers),
        *days.HANDLERS,
        *closed_references.handlers(),
        *REACTIONS,
    )
