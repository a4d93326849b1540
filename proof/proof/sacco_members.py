"""Members in a schedule: they register, pay in, are prompted, withdraw and cancel, as members' API does it for them.

Who withdraws has paid in before, and most look at their savings first; some request more than they have.

The office assigns receipts that wait: two persons, of which the second begins the saga.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, text

from chassis.http.problem import Problem
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from members import intake, member_tables, receipt_tables, receipt_work, request_tables
from members.domain import ReceiptState
from members.intake import Submission, outbox_row
from members.member_tables import NewMember
from members.requests import COLLECTION, WITHDRAWAL, Request
from messages.contract import Message
from messages.members import MemberRegistered, WithdrawalCancellationRequested
from proof import sacco_tables
from proof.api_workers import ApiWorker
from proof.schedule import Schedule
from proof.simulated_daraja import SimulatedDaraja

MEMBERS = {"00123": "254712000123", "00456": "254712000456"}
"""The phone of each member."""
STRANGER = "254712000999"
TRACE = b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"
PAYMENTS, WITHDRAWALS, PROMPTS = (0, 1, 2), (1, 1, 2), (0, 0, 1)
"""How many there are of each in a schedule."""
PAID_MINOR, WITHDRAWN_MINOR, PROMPTED_MINOR = (100_000, 250_000), (20_000, 60_000, 150_000), (30_000, 70_000)
SAVED_MINOR = 190_000
"""So little that it counts without a confirmation by the provider."""
PAID_WITHIN_S, WITHDRAWN_WITHIN_S, CANCELLED_WITHIN_S = 10.0, 60.0, (1.0, 20.0, 3_600.0)
AGAIN_S = (10.0, 30.0, 120.0, 600.0)
"""When a request goes out again that the door refused, or whose accounts are not open yet."""
LOOKS_S = (2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 600.0)
"""When members look again whether their savings cover what they withdraw."""
WITHDRAWS_UNSEEN_RATE = 0.15
FAULTS_AGAIN_MAX_S = 60.0
ASSIGNED_WITHIN_S = 86_400.0
WAITING = text("SELECT short_code, receipt FROM receipts WHERE state = 'SUSPENSE'")


@dataclass(slots=True, kw_only=True)
class SaccoMembers:
    """All members, the office, and the threads of members' API that their requests come to."""

    workers: Sequence[ApiWorker]
    daraja: SimulatedDaraja
    codec: Codec
    requested: dict[str, Request] = field(default_factory=dict)
    """What was taken, by the id of its saga."""
    _number: int = 0

    @property
    def schedule(self) -> Schedule:
        """Virtual time, and what is planned."""
        return self.workers[0].service.schedule

    def plan(self) -> None:
        """Register every member, and plan what they do."""
        schedule, chance = self.schedule, self.schedule.chance
        for member_id in MEMBERS:
            self._register(member_id)
        for _ in range(chance.choice(PAYMENTS)):
            schedule.at(schedule.now + schedule.within(PAID_WITHIN_S), self._pay_in)
        for kind, count, amounts in ((WITHDRAWAL, WITHDRAWALS, WITHDRAWN_MINOR), (COLLECTION, PROMPTS, PROMPTED_MINOR)):
            for _ in range(chance.choice(count)):
                self._plan_request(kind, chance.choice(amounts))
        if chance.random() < 0.2:
            schedule.at(
                schedule.now + schedule.within(PAID_WITHIN_S), lambda: self.daraja.forge(chance.choice([*MEMBERS]))
            )

    def assign(self) -> None:
        """Assign what waits, as two persons of the office: the first proposes, the second approves."""
        rows: list[OutboxRow] = []

        def assign(tx: Connection) -> None:
            waiting = tx.execute(WAITING).all()
            found = [self._assign(tx, each, self.schedule.chance.choice([*MEMBERS])) for each in waiting]
            rows[:] = [row for each in found for row in each] or rows

        self._do(assign, rows)

    def _assign(self, tx: Connection, waiting: Any, member_id: str) -> list[OutboxRow]:
        """Propose and approve an assignment, as members' API does in two requests; unknown members wait on."""
        proposals, now = receipt_tables.ASSIGNMENTS, self.schedule.now
        (receipt,) = receipt_tables.find(tx, waiting.receipt, waiting.short_code, locks=True)
        new = {
            "proposal_id": self.schedule.new_id(), "provider": receipt.provider, "short_code": receipt.short_code,
            "receipt": receipt.receipt, "proposed_by": "teller-1", "reason": "his phone", "proposed_at": now,
            "member_id": member_id, "target": "SAVINGS",
        }  # fmt: skip
        try:
            receipt_work.targets(tx, receipt, member_id, "SAVINGS")
        except Problem:
            return []
        if not proposals.insert(tx, new):
            return []
        row = proposals.decide(tx, new["proposal_id"], "APPROVED", by="approver-2", reason="so it is", at=now)
        assert row is not None, "it was proposed just now"
        found = [outbox_row(receipt_work.assigned(tx, row, receipt), self.codec, TRACE)]
        outbox.save(tx, found)
        receipt_tables.set_state(tx, receipt, ReceiptState.ASSIGNED)
        return found

    def _register(self, member_id: str) -> None:
        schedule = self.schedule
        new = NewMember(
            member_id=member_id,
            saga_id=schedule.new_id(),
            name=f"Member {member_id}",
            language="en",
            policy="standard",
            destination="SAVINGS",
            phone=MEMBERS[member_id],
            payer_hash=None,
            day_max_minor=None,
            currency="KES",
            registered_at=schedule.now,
        )
        event = MemberRegistered(
            **intake.beginning(new.saga_id, "member_onboarding", schedule.now),
            member_id=member_id,
            phone=new.phone,
            language=new.language,
            currency=new.currency,
        )
        rows: list[OutboxRow] = []

        def register(tx: Connection) -> None:
            if member_tables.insert(tx, [new]):
                self._save(tx, event, rows)

        self._do(register, rows)

    def _pay_in(self) -> None:
        """Let someone pay in, with a reference as people type it."""
        chance = self.schedule.chance
        member_id = chance.choice([*MEMBERS])
        forms = (member_id, member_id, f" {member_id}", f"dep{member_id}", f"sav-{member_id}", "mama", "")
        phone = MEMBERS[member_id] if chance.random() < 0.8 else STRANGER
        self.daraja.pay(phone, chance.choice(PAID_MINOR), chance.choice(forms))

    def _plan_request(self, kind: str, amount_minor: int) -> None:
        """Plan a request, which goes out again under its key while its outcome is not known."""
        schedule, chance = self.schedule, self.schedule.chance
        self._number += 1
        request = Request(
            kind=kind,
            member_id=chance.choice([*MEMBERS]),
            amount_minor=amount_minor,
            target="SAVINGS" if kind == COLLECTION else "",
            provider="daraja",
        )
        digest = hashlib.sha256(f"key {self._number}".encode()).digest()
        submission = Submission(request=request, digest=digest, body={"number": self._number}, traceparent=TRACE)
        tries, rows, outcomes = iter(AGAIN_S), list[OutboxRow](), list[Any]()

        def submit(tx: Connection) -> None:
            result = intake.accept(
                tx, [submission], codec=self.codec, new_saga_id=schedule.new_id, now=schedule.now
            )  # fmt: skip
            outcomes[:] = result.outcomes
            rows[:] = result.rows or rows

        def then() -> None:
            if not isinstance(outcomes[0], Problem):
                self._taken(outcomes[0].id, request)
            elif (wait := next(tries, None)) is not None:
                schedule.at(schedule.now + timedelta(seconds=wait), lambda: self._do(submit, rows, then))

        def begin() -> None:
            schedule.begin_faults(FAULTS_AGAIN_MAX_S)
            self._do(submit, rows, then)

        looks = kind == WITHDRAWAL and chance.random() >= WITHDRAWS_UNSEEN_RATE
        if kind == WITHDRAWAL:
            self._save_for(request)
        self._at_last(request, iter(LOOKS_S if looks else ()), begin, within_s=WITHDRAWN_WITHIN_S)

    def _save_for(self, request: Request) -> None:
        """Pay in before a withdrawal, so that most of them reach the provider."""
        schedule, member_id = self.schedule, request.member_id
        paid_at = schedule.now + schedule.within(PAID_WITHIN_S)
        schedule.at(paid_at, lambda: self.daraja.pay(MEMBERS[member_id], SAVED_MINOR, member_id, is_confirmed=True))

    def _at_last(self, request: Request, looks: Iterator[float], begin: Callable[[], None], *, within_s: float) -> None:
        """Begin once the member's savings cover the request, or there are no looks left."""

        def look() -> None:
            wait = next(looks, None)
            if wait is None or self._has_saved(request):
                begin()
            else:
                self._at_last(request, looks, begin, within_s=wait)

        self.schedule.at(self.schedule.now + self.schedule.within(within_s), look)

    def _has_saved(self, request: Request) -> bool:
        database = self.workers[0].service.database
        return sacco_tables.savings_minor(database, request.member_id) >= request.amount_minor

    def _taken(self, saga_id: str, request: Request) -> None:
        if saga_id in self.requested:
            return
        self.requested[saga_id] = request
        chance = self.schedule.chance
        if request.kind == WITHDRAWAL and chance.random() < 0.3:
            wait = self.schedule.within(chance.choice(CANCELLED_WITHIN_S))
            self.schedule.at(self.schedule.now + wait, lambda: self._cancel(saga_id, request.member_id))

    def _cancel(self, saga_id: str, member_id: str) -> None:
        schedule, rows = self.schedule, list[OutboxRow]()
        event = WithdrawalCancellationRequested(
            message_id=schedule.new_id(), saga_id=saga_id, saga_type="withdrawal", saga_version=1, causation_id=None,
            occurred_at=schedule.now, member_id=member_id, reason="I changed my mind",
        )  # fmt: skip

        def cancel(tx: Connection) -> None:
            if request_tables.request_cancellation(tx, saga_id, now=schedule.now):
                self._save(tx, event, rows)

        self._do(cancel, rows)

    def _save(self, tx: Connection, event: Message, rows: list[OutboxRow]) -> None:
        rows[:] = [outbox_row(event, self.codec, TRACE)]
        outbox.save(tx, rows)

    def _do(
        self, act: Callable[[Connection], None], rows: list[OutboxRow], then: Callable[[], None] = lambda: None
    ) -> None:
        """Do a request on one of the threads, and publish what it stored."""

        def publish_and_go_on() -> None:
            published, rows[:] = list(rows), []
            for row in published:
                self.workers[0].publish(row)
            then()

        self.schedule.chance.choice(self.workers).do(act, publish_and_go_on)
