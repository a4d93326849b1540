"""Every service of a SACCO on real PostgreSQL, on one thread: what one publishes, the others get.

The tracker is not among them. What it would do is derived from the saga's definition: the commands that undo a saga
which is rejected, and its end.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from chassis.postgres import migrations
from chassis.testing.service import ServiceUnderTest, types
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from members import intake, member_tables
from members.intake import Accepted, Submission
from members.member_tables import NewMember
from members.requests import Request
from messages.contract import Message
from messages.members import MemberRegistered
from messages.saga import MemberOnboarded
from mobile_money.asking import Asking
from proof.schemas import LocalRegistry
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.model.saga import SagaDefinition
from stack import Stack
from stack.contract import package_of
from support.builders import a
from support.ledgers import ledger_on
from support.mobile_money import Sending
from support.postgres import scratch_database
from support.services import handlers
from support.simulated_money import SimulatedMoney, simulated_money
from support.waiting import until

SERVICES = ("members", "mobile-money", "ledger", "notifier")
SHORT_CODE, CURRENCY = "600100", "KES"
ROUNDS_MAX = 200
"""More than any saga has messages: a saga that exceeds it goes in a circle."""


@dataclass(kw_only=True)
class SaccoChain:
    """The services by name, each on a database of its own. ``begun`` are the events that began other sagas."""

    engines: Mapping[str, Engine]
    money: SimulatedMoney
    begun: list[Message] = field(default_factory=list)
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))

    def run(self, start: Message, end: str = "") -> list[Message]:
        """Publish an event of a saga, deliver what follows to the services that handle it, and return all messages.

        With ``end`` it waits for what the provider calls back, until a message of that type is published.
        """
        services = self._services(start)
        sending = next(each for each in services if isinstance(each, Sending))
        published, waiting = [start], [start]
        for _ in range(ROUNDS_MAX):
            if not waiting:
                if not end or end in types(published):
                    return published
                found = until(lambda: self._reported(sending), f"{end} after {types(published)}", within_s=60)
                published += found
                waiting += found
            if waiting:
                found = self._handled(services, waiting.pop(0))
                published += found
                waiting += found
        raise AssertionError(f"The saga goes in a circle: {types(published[-20:])}")

    def other(self, saga_type: str) -> Message:
        """Return the one event that began a saga of this type, as soon as the provider has called back about it."""
        sending = self.money.sending.of_saga()

        def found() -> list[Message]:
            self._reported(sending)
            return [each for each in self.begun if each.saga_type == saga_type]

        (event,) = until(found, f"a saga {saga_type}", within_s=60)
        self.begun.remove(event)
        return event

    def reject(self, published: list[Message]) -> list[Message]:
        """Undo a saga as the tracker does once a step is rejected, end it, and return what that leads to.

        1. Each step before the rejected one that can be undone is, the last one first.
        2. Its end is published.
        """
        definition, names = _definition(published[0].saga_type), types(published)
        rejected = next(
            each for each in definition.steps if each.rejected_with and each.rejected_with.__name__ in names
        )
        own: dict[str, Any] = {"saga_id": published[0].saga_id, "saga_type": definition.name}
        services = self._services(published[0])
        found: list[Message] = []
        # 1.
        for step in reversed(definition.steps[: definition.steps.index(rejected)]):
            if step.compensation is None:
                continue
            replies = self._handled(services, a(step.compensation.command, **own, step=step.name, attempt=1))
            assert [type(each) for each in replies] == [step.compensation.reply]
            found += replies
        # 2.
        failed = {"cause": "REJECTED", "step": rejected.name, "reason": "the provider refused it"}
        return found + self._handled(services, a(definition.failed_by, **own, **failed))

    def register(self, member_id: str, phone: str) -> list[Message]:
        """Register a member, let the accounts be opened, and return what was published."""
        now, saga_id = datetime.now(UTC), new_id()
        new = NewMember(
            member_id=member_id, saga_id=saga_id, name="Amina Wanjiru", language="en", policy="standard",
            destination="SAVINGS", phone=phone, payer_hash=None, day_max_minor=None, currency=CURRENCY,
            registered_at=now,
        )  # fmt: skip
        with self.engines["members"].begin() as tx:
            assert member_tables.insert(tx, [new]) == {member_id}
        own = {"saga_id": saga_id, "saga_type": "member_onboarding"}
        person = {"member_id": member_id, "phone": phone, "language": "en", "currency": CURRENCY}
        published = self.run(a(MemberRegistered, **own, **person))
        return published + self.run(a(MemberOnboarded, **own))

    def request(self, **asked: Any) -> Message:
        """Request something for a member at the door of members, and return the event that begins its saga."""
        submission = Submission(
            request=Request(**asked), digest=secrets.token_bytes(32), body=dict(asked), traceparent=None
        )
        with self.engines["members"].begin() as tx:
            taken = intake.accept(
                tx, [submission], codec=self.codec, new_saga_id=new_id, now=datetime.now(UTC)
            )  # fmt: skip
        assert isinstance(taken.outcomes[0], Accepted), taken.outcomes
        (row,) = taken.rows
        return self.codec.decode(row.payload)

    @property
    def asking(self) -> Asking:
        """What mobile money asks the provider by itself."""
        sending = self.money.sending
        return Asking(sending.code, sending.providers, sending.needed, lambda: datetime.now(UTC))

    def posted(self, code: str, owner: str) -> int:
        """Return credits less debits of an account of the ledger; 0 for one that is not open."""
        totals = ledger_on(self.engines["ledger"]).totals().get(f"sacco:{code}:{owner}:{CURRENCY}")
        return 0 if totals is None else totals[1] - totals[0]

    def check(self) -> None:
        """Every transfer of the ledger is balanced, and every balance is the sum of its entries."""
        ledger_on(self.engines["ledger"]).check()

    def row(self, service: str, query: str, **values: Any) -> Any:
        """Return the one row that a query finds in a service's database."""
        with self.engines[service].connect() as tx:
            return tx.execute(text(query), values).one()

    def texts(self, saga_id: str) -> list[str]:
        """Return the kinds of the texts that the notifier has about a saga."""
        with self.engines["notifier"].connect() as tx:
            query = text("SELECT kind FROM texts WHERE saga_id = :id ORDER BY kind")
            return list(tx.execute(query, {"id": saga_id}).scalars())

    def _handled(self, services: list[ServiceUnderTest], message: Message) -> list[Message]:
        published: list[Message] = []
        for service in services:
            if service.handlers.handling(message):
                published += self._of_saga(message.saga_id, service.deliver(message) + _called(service))
                assert service.letters == [], f"{service.name} dead-lettered {message}: {service.letters}"
        return published

    def _reported(self, sending: Sending) -> list[Message]:
        """Decide about what the provider has called back, and return what that leads to in this saga."""
        sending.now = datetime.now(UTC)
        return self._of_saga(sending.saga_id, [*sending.decided(), *sending.decide(), *_called(sending)])

    def _of_saga(self, saga_id: str, found: list[Message]) -> list[Message]:
        self.begun += [each for each in found if each.saga_id != saga_id]
        return [each for each in found if each.saga_id == saga_id]

    def _services(self, start: Message) -> list[ServiceUnderTest]:
        now = datetime.now(UTC)
        sending = self.money.sending.of_saga(saga_id=start.saga_id, saga_type=start.saga_type)
        sending.now = now
        others: list[ServiceUnderTest] = [
            ServiceUnderTest(
                name=name, engine=self.engines[name], handlers=handlers()[name], codec=self.codec,
                saga_id=start.saga_id, now=now,
            )
            for name in SERVICES
            if name != "mobile-money"
        ]  # fmt: skip
        return [*others, sending]


def _definition(saga_type: str) -> SagaDefinition:
    return next(each for each in DEFINITIONS.values() if each.name == saga_type)


def _called(service: ServiceUnderTest) -> list[Message]:
    """Make the planned calls of a service, one after the other, once Kafka has what announces them."""
    published = []
    while service.calls:
        service.acknowledge()
        published += service.call()
    return published


@contextmanager
def sacco_chain(stack: Stack, folder: Path) -> Iterator[SaccoChain]:
    """Yield the services, each on an empty, migrated database, with the simulated Daraja and float there."""
    with ExitStack() as opened:
        engines = {name: opened.enter_context(scratch_database(stack)) for name in SERVICES}
        for name, engine in engines.items():
            migrations.upgrade(package_of(name), engine)
        money = opened.enter_context(simulated_money(engines["mobile-money"], folder, short_code=SHORT_CODE))
        money.door("POST", "float", {"short_code": SHORT_CODE, "amount_minor": 100_000_000})
        yield SaccoChain(engines=engines, money=money)
