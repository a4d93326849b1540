"""The saga of a business day's end: what the ledger has measured, and the event of what is decided."""

from __future__ import annotations

from typing import Final

from chassis.saga.triggers import SagaTrigger
from messages.contract import Envelope
from messages.ledger import DayMeasured
from messages.mobile_money import BusinessDayDecided
from mobile_money.domain import Decision
from mobile_money.step_requests import DecideDay


def _read(event: DayMeasured, step: str) -> DecideDay:
    return DecideDay(
        saga_id=event.saga_id,
        step=step,
        provider=event.provider,
        short_code=event.short_code,
        day=event.day,
        run=event.run,
        utility_minor=event.utility_minor,
        working_minor=event.working_minor,
        charges_minor=event.charges_minor,
        measured_at=event.occurred_at,
    )


def _publish(event: DayMeasured, decision: Decision, envelope: Envelope) -> BusinessDayDecided:
    return BusinessDayDecided(
        **envelope,
        provider=event.provider,
        short_code=event.short_code,
        day=event.day,
        run=event.run,
        state=decision.state,
        reason=decision.reason,
        difference_minor=decision.difference_minor,
    )


MEASURED: Final = SagaTrigger(
    saga="end_of_day",
    versions=(1,),
    on=DayMeasured,
    read=_read,
    publish=_publish,
    succeeds_with=BusinessDayDecided,
)
