"""The providers' charges, as data with dates: what a payout costs us by its amount and by the day it was completed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Date, PrimaryKeyConstraint, Table, Text

from chassis.postgres.statement import Statement
from mobile_money.readings import NAIROBI
from mobile_money.tables import metadata

provider_tariffs = Table(
    "provider_tariffs",
    metadata,
    Column("provider", Text, nullable=False),
    Column("kind", Text, nullable=False, comment="PAYOUT"),
    Column("valid_from", Date, nullable=False),
    Column("up_to_minor", BigInteger, nullable=False, comment="the largest amount with this charge"),
    Column("charge_minor", BigInteger, nullable=False),
    PrimaryKeyConstraint("provider", "kind", "valid_from", "up_to_minor"),
)
ALL: Final = Statement("SELECT provider, kind, valid_from, up_to_minor, charge_minor FROM provider_tariffs")


@dataclass(frozen=True, slots=True)
class Tariff:
    """One line of a tariff."""

    provider: str
    kind: str
    valid_from: date
    up_to_minor: int
    charge_minor: int


def read(tx: Connection) -> list[Tariff]:
    """Return all lines of all tariffs."""
    return [Tariff(*row) for row in ALL.rows(tx, {})]


def charge_minor(lines: Sequence[Tariff], provider: str, amount_minor: int, at: datetime) -> int:
    """Return what a payout costs by the tariff of its day in Nairobi; 0 where there is none."""
    day = at.astimezone(NAIROBI).date()
    own = [each for each in lines if each.provider == provider and each.kind == "PAYOUT" and each.valid_from <= day]
    newest = max((each.valid_from for each in own), default=None)
    fits = [each for each in own if each.valid_from == newest and each.up_to_minor >= amount_minor]
    return min(fits, key=lambda each: each.up_to_minor).charge_minor if fits else 0
