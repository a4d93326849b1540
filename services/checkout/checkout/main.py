"""The checkout process: reactions on a worker thread, the API on the main thread."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from pydantic_settings import BaseSettings, SettingsConfigDict

from chassis.process import service
from chassis.process.service import Dependencies, Service
from chassis.telemetry.table_gauges import overdue
from chassis.values.money import is_currency
from checkout import api, tables
from checkout.handlers import HANDLERS
from checkout.points import PointsRate

RATE: Final = re.compile(r"(?P<currency>[A-Z]{3})=(?P<points>[1-9][0-9]{0,8}):(?P<minor>[1-9][0-9]{0,8})")


class Limits(BaseSettings):
    """The requests a second that one client may send, by role: ``BARAZA_REQUESTS_PER_S_CUSTOMER`` and so on."""

    model_config = SettingsConfigDict(env_prefix="BARAZA_REQUESTS_PER_S_", frozen=True)

    customer: int = 100
    storefront: int = 5_000
    support: int = 100
    operator: int = 200


class Programme(BaseSettings):
    """The loyalty programme: what points pay, by currency.

    ``BARAZA_POINTS_RATES=USD=1:1,JPY=2:3,KWD=100:1``: in yen two points pay three minor units, in dinars a hundred pay
    one. It is a setting, because it changes with the programme's terms and not from day to day. The rate that was used
    is kept with each order, so that a new rate changes no order that was accepted.
    """

    model_config = SettingsConfigDict(env_prefix="BARAZA_", frozen=True)

    points_rates: str = "USD=1:1"

    @property
    def rates(self) -> dict[str, PointsRate]:
        """The rates by currency. Raises ValueError."""
        found = [_rate(text.strip()) for text in self.points_rates.split(",") if text.strip()]
        if twice := [currency for currency, count in Counter(currency for currency, _ in found).items() if count > 1]:
            raise ValueError(f"BARAZA_POINTS_RATES has {twice[0]} twice; a currency has one rate.")
        return dict(found)


def _rate(text: str) -> tuple[str, PointsRate]:
    found = RATE.fullmatch(text)
    if found is None or not is_currency(found["currency"]):
        raise ValueError(f"BARAZA_POINTS_RATES has {text!r}; write CURRENCY=POINTS:MINOR, such as USD=1:1.")
    return found["currency"], PointsRate(points=int(found["points"]), minor=int(found["minor"]))


OVERDUE = overdue(tables.OVERDUE)


def build(dependencies: Dependencies) -> Service:
    """Wire the service."""
    # Checkout accepts orders while Kafka is unavailable: the outbox keeps their events.
    return Service(
        handlers=HANDLERS,
        app=api.application(dependencies, Limits().model_dump(), Programme().rates),
        starts_without=("Kafka",),
        measures=(OVERDUE,),
    )


if __name__ == "__main__":
    raise SystemExit(service.run(build))
