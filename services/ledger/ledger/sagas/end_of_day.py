"""The end of day saga: what the ledger had at the end of a business day is measured."""

from __future__ import annotations

from datetime import date

from chassis.saga.triggers import SagaTrigger
from ledger.model.business_days import DayMeasurement, MeasureDay
from ledger.model.sacco_books import Done
from messages.contract import Envelope
from messages.ledger import DayMeasured
from messages.mobile_money import DayCloseRequested


def measure(event: DayCloseRequested, step: str) -> MeasureDay:
    """Return the day that is measured. Raises ValueError for one that is none."""
    return MeasureDay(
        saga_id=event.saga_id,
        step=step,
        short_code=event.short_code,
        currency=event.currency,
        day=date.fromisoformat(event.day),
    )


def measured(event: DayCloseRequested, outcome: Done, envelope: Envelope) -> DayMeasured:
    """Report what was measured."""
    found = DayMeasured.from_record({**event.to_record(), **envelope, **outcome.fields})
    assert isinstance(found, DayMeasured)
    return found


def published(event: DayMeasured) -> Done:
    """Return what was measured, as it was published."""
    record = event.to_record()
    return Done(fields={name: record[name] for name in DayMeasurement.__dataclass_fields__})


MEASURING = SagaTrigger(
    saga="end_of_day",
    versions=(1,),
    on=DayCloseRequested,
    read=measure,
    publish=measured,
    succeeds_with=DayMeasured,
    restore=published,
)
