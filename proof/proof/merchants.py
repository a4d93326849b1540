"""Merchants in a schedule: they register, submit payments, cancel, capture, void and refund, as merchant's API does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from chassis.http.gateway_accounts import GatewayAccounts
from chassis.http.problem import Problem
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from merchant import intake, merchant_tables, operations
from merchant.bodies import CancelBody, CaptureBody, PaymentBody, PaymentMethod, RefundBody
from merchant.intake import Accepted, Terms, outbox_row, submission
from merchant.operations import Context, Done, Requested
from messages.merchant import MerchantRegistered
from proof.api_workers import ApiWorker
from proof.schedule import Schedule

STRIPES, ADYENS = "amina", "juma"
IS_LIVE = {STRIPES: True, ADYENS: False}
"""One merchant of each gateway, and its mode: one is live, one is a test."""
CURRENCY = "EUR"
PAYMENTS = (1, 1, 2, 3)
SUBMITTED_WITHIN_S = 20.0
CANCELLED_WITHIN_S = (1.0, 20.0, 3_600.0)
LATER_WITHIN_S = (60.0, 86_400.0, 8 * 86_400.0)
REFUNDED_WITHIN_S = (60.0, 3_600.0, 6 * 86_400.0)
SUBMITTED_WITHIN = timedelta(days=14)
AGAIN_S = (30.0, 3_600.0, 86_400.0, 3 * 86_400.0)
"""When a merchant tries again what the payment's status did not allow yet."""
REFUNDS = ((), (100,), (60, 60), (30, 50, 40), (40, 60))
"""What is refunded of a payment, in percent of its amount; some want more than there is."""
TRACE = b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"
Act = Callable[[Connection, Requested, Context], Done]
ACTIONS: Mapping[Act, Any] = {
    operations.capture: operations.CAPTURE,
    operations.cancel: operations.CANCEL,
    operations.refund: operations.REFUND,
}


@dataclass(slots=True, kw_only=True)
class Merchants:
    """All merchants, and the threads of merchant's API that their requests come to."""

    workers: Sequence[ApiWorker]
    accounts: GatewayAccounts
    codec: Codec
    submitted: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _number: int = 7_000_000_000_000_000_000

    @property
    def schedule(self) -> Schedule:
        """Virtual time, and what is planned."""
        return self.workers[0].service.schedule

    def plan(self) -> None:
        """Register every merchant, and plan what they do."""
        schedule, chance = self.schedule, self.schedule.chance
        for merchant_id in (STRIPES, ADYENS):
            self._register(merchant_id)
        for _ in range(chance.choice(PAYMENTS)):
            schedule.at(schedule.now + schedule.within(SUBMITTED_WITHIN_S), self._submit)

    def _register(self, merchant_id: str) -> None:
        new = {
            "merchant_id": merchant_id, "saga_id": self.schedule.new_id(), "name": merchant_id,
            "currencies": json.dumps([CURRENCY]), "basis_points": 150, "fixed_minor": json.dumps({CURRENCY: 25}),
            "amount_max_minor": "{}",
        }  # fmt: skip
        event = MerchantRegistered(
            message_id=self.schedule.new_id(), saga_id=str(new["saga_id"]), saga_type="merchant_onboarding",
            saga_version=1, causation_id=None, occurred_at=self.schedule.now, merchant_id=merchant_id,
            name=merchant_id, currencies=(CURRENCY,),
        )  # fmt: skip
        rows: list[OutboxRow] = []

        def register(tx: Connection) -> None:
            if merchant_tables.insert(tx, new, now=self.schedule.now):
                rows[:] = [outbox_row(event, self.codec, TRACE)]
                outbox.save(tx, rows)

        self._do(register, rows)

    def _submit(self) -> None:
        """Submit a payment; a merchant whose accounts are not open yet tries again."""
        schedule, chance = self.schedule, self.schedule.chance
        merchant_id, is_later = chance.choice((STRIPES, ADYENS)), chance.random() < 0.4
        self._number += 1
        number, key = self._number, f"key {self._number}"
        amount_minor = chance.choice((100, 1_000, 9_999))
        body = PaymentBody(
            amount_minor=amount_minor,
            currency=CURRENCY,
            payment_method=PaymentMethod(type="card", token=f"tok_{chance.randint(1, 3)}"),
            capture="later" if is_later else "now",
            reference=f"order {number}",
        )
        terms = Terms(codec=self.codec, accounts=self.accounts, payer_key=b"k" * 32)
        rows: list[OutboxRow] = []
        outcomes: list[Accepted | Problem] = []
        waits = [timedelta(seconds=15)]

        def submit(tx: Connection) -> None:
            wanted = submission(merchant_id, key, body, TRACE, is_live=IS_LIVE[merchant_id])
            result = intake.accept(
                tx, [wanted], terms, payment_ids=[number], new_saga_id=schedule.new_id, now=schedule.now
            )
            outcomes[:] = result.outcomes
            rows[:] = result.rows or rows

        def then() -> None:
            if isinstance(outcomes[0], Problem):
                # A merchant whose onboarding failed for good is refused for ever; one that is redriven waits for days.
                waits.append(2 * waits[-1])
                if waits[-1] < SUBMITTED_WITHIN:
                    schedule.at(schedule.now + waits[-1], lambda: self._do(submit, rows, then))
                return
            if number not in self.submitted:
                self.submitted.append(number)
                self._plan_more(merchant_id, number, amount_minor, is_later=is_later)

        self._do(submit, rows, then)

    def _plan_more(self, merchant_id: str, payment_id: int, amount_minor: int, *, is_later: bool) -> None:
        """Plan what the merchant does with a payment of its own."""
        chance = self.schedule.chance
        if chance.random() < 0.25:
            self._request(merchant_id, payment_id, operations.cancel, CancelBody(), CANCELLED_WITHIN_S)
        if is_later:
            part = chance.choice((None, None, amount_minor // 2))
            choice = chance.choice(("capture", "capture", "void", "both", "nothing"))
            if choice in ("capture", "both"):
                self._request(
                    merchant_id, payment_id, operations.capture, CaptureBody(amount_minor=part), LATER_WITHIN_S
                )
            if choice in ("void", "both"):
                self._request(merchant_id, payment_id, operations.cancel, CancelBody(reason="sold out"), LATER_WITHIN_S)
        for percent in chance.choice(REFUNDS):
            body = RefundBody(amount_minor=amount_minor * percent // 100)
            self._request(merchant_id, payment_id, operations.refund, body, REFUNDED_WITHIN_S)

    def _request(self, merchant_id: str, payment_id: int, act: Act, body: Any, within_s: Sequence[float]) -> None:
        """Plan a request about a payment; where its status does not allow it, the merchant tries again for days."""
        schedule = self.schedule
        self._number += 1
        number, rows, tries = self._number, list[OutboxRow](), iter(AGAIN_S)
        requested = Requested(
            merchant_id=merchant_id, is_live=IS_LIVE[merchant_id], payment_id=payment_id, key=f"key {number}",
            action=ACTIONS[act], body=body, traceparent=TRACE,
        )  # fmt: skip
        problems: list[Problem] = []

        def do(tx: Connection) -> None:
            context = Context(codec=self.codec, now=schedule.now, operation_id=number, new_saga_id=schedule.new_id)
            problems.clear()
            try:
                done = act(tx, requested, context)
            except Problem as problem:
                problems.append(problem)
                return
            if not done.is_replay:
                rows[:] = done.rows

        def then() -> None:
            if problems and (wait := next(tries, None)) is not None:
                schedule.at(schedule.now + timedelta(seconds=wait), lambda: self._do(do, rows, then))

        wait = schedule.within(schedule.chance.choice(within_s))
        schedule.at(schedule.now + wait, lambda: self._do(do, rows, then))

    def _do(
        self,
        act: Callable[[Connection], None],
        rows: list[OutboxRow],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Do a request on one of the threads, and publish what it stored."""

        def publish_and_go_on() -> None:
            published, rows[:] = list(rows), []
            for row in published:
                self.workers[0].publish(row)
            then()

        self.schedule.chance.choice(self.workers).do(act, publish_and_go_on)
