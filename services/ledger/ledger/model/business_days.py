"""What the ledger had at the end of a business day. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Final

from chassis.saga.triggers import StepRequest

MEASURE_DAY: Final = "measure_day"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureDay(StepRequest):
    """Measure the balances of a short code at the end of a day in the chart's zone."""

    short_code: str
    currency: str
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class DayMeasurement:
    """Balances by value date, and what was open: receipts not allocated, payouts in transit."""

    utility_minor: int
    working_minor: int
    charges_minor: int
    unallocated_minor: int
    unallocated: int
    unallocated_since: datetime | None
    in_transit_minor: int
    in_transit: int
    in_transit_since: datetime | None

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of its event."""
        return asdict(self)
