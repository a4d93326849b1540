"""What the provider charges a short code for a transaction, by the day: data with dates."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from simulators.mobile.records import MobileRecords
from simulators.mobile.times import day_of

KEY = "tariffs"
SHILLING = 100
"""Minor units of a shilling."""


class Band(BaseModel):
    """What amounts up to a limit, in shillings, are charged, in shillings; without a limit all that are left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    up_to: Annotated[int, Field(ge=1)] | None = None
    charge: Annotated[int, Field(ge=0)]


class Tariff(BaseModel):
    """The bands of one kind of transaction from a day on, until the next tariff of that kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Annotated[str, Field(pattern="^(pay_in|pay_out)$")]
    from_day: date
    bands: tuple[Band, ...]

    def charge_minor(self, amount_minor: int) -> int:
        """Return the charge for an amount, both in minor units."""
        for band in self.bands:
            if band.up_to is None or amount_minor <= band.up_to * SHILLING:
                return band.charge * SHILLING
        return 0


PUBLISHED = (
    Tariff(
        kind="pay_out",
        from_day=date(2023, 8, 1),
        bands=(
            Band(up_to=100, charge=0), Band(up_to=1_500, charge=5), Band(up_to=5_000, charge=9),
            Band(up_to=20_000, charge=11), Band(charge=13),
        ),
    ),
)  # fmt: skip
"""Payouts to registered receivers that the business pays for. Payers pay what they are charged themselves."""


def all_of(records: MobileRecords) -> list[Tariff]:
    """Return the tariffs, those that were added last."""
    kept = records.kept_under(KEY) or {}
    added = kept.get("tariffs", [])
    assert isinstance(added, list), "it was written by this module"
    return [*PUBLISHED, *(Tariff.model_validate(each) for each in added)]


def add(records: MobileRecords, tariff: Tariff) -> None:
    """Add a tariff. It runs inside a transaction."""
    added = [each.model_dump(mode="json") for each in all_of(records)[len(PUBLISHED) :]]
    records.keep_under(KEY, {"tariffs": [*added, tariff.model_dump(mode="json")]})


def charge_minor(records: MobileRecords, kind: str, amount_minor: int, at: float) -> int:
    """Return what a transaction is charged on its day, in minor units."""
    day = day_of(at)
    valid = [each for each in all_of(records) if each.kind == kind and each.from_day <= day]
    if not valid:
        return 0
    newest = max(enumerate(valid), key=lambda numbered: (numbered[1].from_day, numbered[0]))[1]
    return newest.charge_minor(amount_minor)
