"""Payments in risk, on a database of its own: validated, withdrawn, and counted again by SQL from the validations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from chassis.postgres import migrations
from chassis.saga.handlers import Handlers
from chassis.testing.service import ServiceUnderTest
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.merchant import PaymentSubmitted
from messages.risk import WithdrawValidation
from proof.schemas import LocalRegistry
from risk.handlers import handlers
from risk.rule_sets import SHIPPED, RuleSets
from stack import Stack
from support.builders import a
from support.postgres import scratch_database

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PAYMENT = {"saga_type": "payment", "saga_version": 1}
NUMBERS = itertools.count(1)

COUNTERS = """
    SELECT kind, subject, is_live, currency, minute, payments, amount_minor FROM counters WHERE payments > 0
"""
COUNTED_AGAIN = """
    SELECT kind, subject, is_live, currency, date_trunc('minute', submitted_at), count(*), sum(amount_minor)
    FROM validations, LATERAL (VALUES ('payer', payer), ('merchant', merchant_id)) AS of_whom (kind, subject)
    WHERE state = 'COUNTED' GROUP BY 1, 2, 3, 4, 5
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskUnderTest:
    """A migrated database of risk."""

    engine: Engine
    rules: RuleSets = field(default_factory=RuleSets)

    def saga(self, saga_id: str | None = None) -> ServiceUnderTest:
        return ServiceUnderTest(
            name="risk",
            engine=self.engine,
            handlers=Handlers.of(handlers(self.rules)),
            codec=Codec(LocalRegistry()),
            saga_id=saga_id or new_id(),
        )

    def submit(self, **given: Any) -> Message:
        """Submit a payment in a saga of its own, and return the event of the decision."""
        event = submitted(**given)
        (answer,) = self.saga(event.saga_id).deliver(event)
        return answer

    def rows(self, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), parameters)]

    def check(self) -> None:
        """The counters are what the validations sum up to."""
        assert sorted(self.rows(COUNTERS)) == sorted(self.rows(COUNTED_AGAIN))


def submitted(*, after_s: float = 0, **given: Any) -> PaymentSubmitted:
    """Return the event of a payment of 10.00 USD, by default of one payer and so long after noon."""
    fields: Mapping[str, Any] = {
        "payment_id": next(NUMBERS),
        "merchant_id": "merchant-1",
        "is_live": True,
        "currency": "USD",
        "amount_minor": 1_000,
        "capture": "NOW",
        "payment_method": "pm_card_visa",
        "payer": "payer-1",
        "occurred_at": NOON + timedelta(seconds=after_s),
    }
    return a(PaymentSubmitted, **PAYMENT, **{**fields, **given})


def withdrawal(of: PaymentSubmitted | str, attempt: int = 1) -> WithdrawValidation:
    saga_id = of if isinstance(of, str) else of.saga_id
    return a(WithdrawValidation, saga_id=saga_id, step="validate_payment", attempt=attempt, **PAYMENT)


@contextmanager
def risk_database(stack: Stack, rules: Path = SHIPPED) -> Iterator[RiskUnderTest]:
    with scratch_database(stack) as engine:
        migrations.upgrade("risk", engine)
        yield RiskUnderTest(engine=engine, rules=RuleSets(rules))
