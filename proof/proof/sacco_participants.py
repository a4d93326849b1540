"""The participants of a schedule of a SACCO: its services, the provider of mobile money, and the office."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, Engine, text

import ledger.handlers
import members.handlers
import mobile_money.handlers
import notifier.handlers
from chassis.http.downstream import Downstream
from chassis.saga import outbox
from chassis.saga.answers import QueryAnswer
from chassis.saga.outbox import OutboxRow
from chassis.saga.steps import Handler
from mobile_money import asking, deciding, importing, lanes, raw_callbacks
from mobile_money.domain import Lane, LaneId
from mobile_money.http_daraja import Daraja
from mobile_money.importing import File
from mobile_money.intake import Deciding
from mobile_money.lanes import LaneGate
from mobile_money.limiter import Limiter
from mobile_money.port import Prompt, Requested
from mobile_money.questions import Questions
from mobile_money.raw_callbacks import RawCallback
from mobile_money.registry import Providers
from mobile_money.short_codes import ShortCode, ShortCodes
from mobile_money.statement_tables import UTILITY
from mobile_money.tokens import Tokens
from proof.api_workers import ApiWorker
from proof.connections import ProcessConnection
from proof.deployment import PROCESSES, Deployment
from proof.disturbances import Disturbances
from proof.failing_handlers import FailingHandlers
from proof.operator import Operator
from proof.outages import Outages
from proof.sacco_members import ASSIGNED_WITHIN_S, SaccoMembers
from proof.sacco_tables import PROVIDER, SHORT_CODE, enter_first_terms
from proof.schedule import BEGINNING
from proof.simulated_daraja import SimulatedDaraja
from saga_tracker.definitions import DEFINITIONS

SAGAS = frozenset({"member_onboarding", "collection", "receipt", "suspense_allocation", "withdrawal"})
FAULTS_AGAIN_MAX_S = 20.0
INBOX, OFFICE, CALLS = 2, 3, 4
"""The numbers of mobile-money's connections besides those of its workers."""
TRIES_MAX = 12
"""What waits for longer, some hours, waits for a person."""
CONFIRM_FROM_MINOR = 200_000
DECIDED_WITHIN_S, PULLED_WITHIN_S, OPENED_WITHIN_S, NOTICED_S = 1.0, 60.0, 3_600.0, 10.0
TELLERS_WITHIN_S = 1.0
STATEMENT_DAYS = (1, 2, 4, 6, 8)
"""When statements are imported, in days; the last of them after every request that may still arrive."""
NEXT_DECISION = text("SELECT min(decide_at) FROM raw_callbacks WHERE matches < :tries")
NEXT_CONFIRMATION = text(
    "SELECT min(query_at) FROM receipts WHERE state = 'UNCONFIRMED' AND queries < :tries"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Inline:
    """An engine whose transactions run inline on one connection, as those of calls do."""

    connection: ProcessConnection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Yield a transaction."""
        with self.connection.begin() as tx:
            yield tx


class OneToken:
    """A token that is always valid: how tokens are shared is no part of a schedule."""

    def current(self, *, but: str | None = None) -> str:
        """Return it."""
        return f"token, and not {but}"


class Unlimited:
    """A limit that is never reached."""

    is_slowed = False

    def wait(self, *, is_bulk: bool) -> None:
        """Return at once."""

    def slow_down(self) -> None:
        """Change nothing."""


class NoPassword:
    """An initiator whose password the simulated provider does not read."""

    def credential(self) -> str:
        """Return nothing that is secret."""
        return ""

    def named(self) -> dict[str, object]:
        """Return the initiator."""
        return {"Initiator": "baraza"}

    def signed(self, at: datetime) -> dict[str, object]:
        """Return a short code with its time."""
        return {"BusinessShortCode": SHORT_CODE, "Timestamp": at.isoformat()}


class OwnCode(ShortCode):
    """Our short code, whose secrets are in no file."""

    @property
    def callback_secrets(self) -> tuple[str, ...]:
        """The secret segment of callbacks' paths."""
        return ("secret",)


class DarajaAdapter(Daraja):
    """The real adapter, without passwords and certificates."""

    def __init__(self, daraja: SimulatedDaraja, questions: Questions, clock: Callable[[], datetime]) -> None:
        super().__init__(
            OWN_CODE,
            cast(Downstream, daraja),
            tokens=lambda _fetch: cast(Tokens, OneToken()),
            limiter=cast(Limiter, Unlimited()),
            questions=questions,
            clock=clock,
        )
        self._login = cast(Any, NoPassword())

    def query(self, request: Requested, key: str, provider_id: str | None) -> QueryAnswer:
        """Query about a prompt as about one whose life is over: its time is the database's, not the schedule's."""
        if isinstance(request, Prompt):
            request = replace(request, requested_at=None)
        return super().query(request, key, provider_id)


NOWHERE = Path("/nonexistent")
OWN_CODE = OwnCode(
    name="main", provider="daraja", short_code=SHORT_CODE, currency="KES", url=cast(Any, "http://127.0.0.1/"),
    callback_url=cast(Any, "http://127.0.0.1/"), callback_secret_file=NOWHERE, callbacks_from=("10.0.0.1",),
    key_file=NOWHERE, secret_file=NOWHERE, passkey_file=NOWHERE, initiator="baraza",
    initiator_password_file=NOWHERE, certificate="/nonexistent", confirm_from_minor=CONFIRM_FROM_MINOR,
)  # fmt: skip
assert OWN_CODE.provider == PROVIDER, "members have the same short code"


@dataclass(slots=True, kw_only=True)
class SaccoParticipants(Deployment):
    """All participants of one schedule of a SACCO."""

    daraja: SimulatedDaraja = field(init=False)
    members: SaccoMembers = field(init=False)
    workers: list[ApiWorker] = field(init=False)
    has_statement: bool = field(init=False)
    """Whether statements are imported. Without one some payouts stay in doubt."""
    _needed: Deciding = field(init=False)
    _asking: asking.Asking = field(init=False)
    _planned: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        schedule, chance = self.schedule, self.schedule.chance
        self.failing = FailingHandlers(schedule)
        self.database.empty()
        enter_first_terms(self.database)
        self.has_statement = chance.random() < 0.8
        self.daraja = SimulatedDaraja(
            short_code=SHORT_CODE,
            schedule=schedule,
            send=self._receive,
            on_change=lambda: schedule.begin_faults(FAULTS_AGAIN_MAX_S),
            on_fault=self._open_later,
            on_payment=lambda: self._plan("pull", schedule.now + schedule.within(PULLED_WITHIN_S), self._pull),
        )
        codes = ShortCodes(short_codes=(OWN_CODE,))
        self._needed = Deciding(short_codes=codes, codec=self.codec, phone_key=b"key")
        definitions = [each for each in DEFINITIONS.values() if each.name in SAGAS]
        services = {step.service for each in definitions for step in each.steps}
        self.outages = Outages(schedule=schedule, services=sorted(services))
        providers = self._providers()
        self._asking = asking.Asking(OWN_CODE, providers, self._needed, lambda: schedule.now)
        self.services = {name: self.processes(name, handlers) for name, handlers in _declared(providers).items()}
        money, people = (self.services[name][0].service for name in ("mobile-money", "members"))
        apis = [ApiWorker(service=people, number=number) for number in (INBOX, OFFICE)]
        self.workers = [*apis, *(ApiWorker(service=money, number=number) for number in (INBOX, OFFICE))]
        self.timeout_factor = chance.choice((0.25, 0.5, 1.0))
        self.trackers = [self.tracker(number) for number in range(PROCESSES)]
        self.disturbances = Disturbances(schedule=schedule, services=self.services, trackers=self.trackers)
        self.trackers[0].begin()
        self.members = SaccoMembers(workers=apis, daraja=self.daraja, codec=self.codec)
        self.operator = Operator(database=self.database, schedule=schedule, next_wake_up=self.next_wake_up)
        self.is_redriven = chance.random() < 0.7
        self._plan_office()

    def abandon(self) -> None:
        """End every task where it stands, for good."""
        for task in (*(each.task for each in self.disturbances.processes), *(each.task for each in self.workers)):
            task.abandon()

    @property
    def _inbox(self) -> ApiWorker:
        return self.workers[2]

    @property
    def _office(self) -> ApiWorker:
        return self.workers[3]

    def _providers(self) -> Providers:
        engine = cast(Engine, Inline(self.database.connection("mobile-money", CALLS)))

        def clock() -> datetime:
            return self.schedule.now

        adapter = DarajaAdapter(self.daraja, Questions(engine, clock), clock)
        gate = LaneGate(engine, clock=lambda: (self.schedule.now - BEGINNING).total_seconds())
        return Providers(by_short_code={SHORT_CODE: adapter}, gate=gate)

    # Callbacks, lists and confirmations

    def _receive(self, kind: str, body: bytes, remote: str) -> None:
        """Store a callback as it came, and decide about it later, as the inbox does."""
        schedule = self.schedule
        schedule.note(f"Daraja calls back ({kind}): {body.decode()}")
        callback = RawCallback(
            id=schedule.new_id(), name=OWN_CODE.name, kind=kind, remote=remote, headers="[]", body=body,
            body_sha256=hashlib.sha256(body).hexdigest(), received_at=schedule.now,
        )  # fmt: skip
        self._inbox.do(lambda tx: raw_callbacks.store(tx, [callback]), self._decide_soon)

    def _decide_soon(self) -> None:
        self._plan("decide", self.schedule.now + self.schedule.within(DECIDED_WITHIN_S), self._decide)

    def _decide(self) -> None:
        """Decide about callbacks that are due, and publish what money they bring."""
        rows, due, paused = list[OutboxRow](), list[datetime | None](), list[str]()

        def decide(tx: Connection) -> None:
            decided = deciding.decide(tx, self._needed, now=self.schedule.now)
            rows[:] = rows if decided is None else decided.rows
            due[:] = _due(tx)
            paused[:] = sorted(lanes.paused(tx))

        def then() -> None:
            self._go_on(rows, due)
            if paused:
                self._open_later()

        self._office.do(decide, then)

    def _pull(self) -> None:
        """List payments, and publish what is left in the outbox, as the decider does."""
        rows, due = list[OutboxRow](), list[datetime | None]()

        def pull(tx: Connection) -> None:
            self._asking.pull(tx)
            rows[:] = _unassigned(tx)
            due[:] = _due(tx)

        self._office.do(pull, lambda: self._go_on(rows, due))

    def publishes_leftovers(self) -> bool:
        """At rest, publish the rows that no partition's owner finds; return whether there were any."""
        found = False
        for worker in (self.workers[0], self._office):
            with self.database.connection(worker.service.name, CALLS).begin() as tx:
                rows = _unassigned(tx)
            for row in rows:
                worker.publish(row)
            found = found or bool(rows)
        return found

    def _confirm(self) -> None:
        due = list[datetime | None]()

        def confirm(tx: Connection) -> None:
            self._asking.confirm(tx)
            due[:] = _due(tx)

        self._office.do(confirm, lambda: self._go_on([], due))

    def _go_on(self, rows: Sequence[OutboxRow], due: Sequence[datetime | None]) -> None:
        for row in rows:
            self._office.publish(row)
        soonest = self.schedule.now + timedelta(seconds=DECIDED_WITHIN_S)
        for what, when, event in zip(("decide", "confirm"), due, (self._decide, self._confirm), strict=True):
            if when is not None:
                self._plan(what, max(when, soonest), event)

    def _plan(self, what: str, when: datetime, event: Callable[[], None]) -> None:
        """Plan one of mobile-money's tasks, unless it runs before."""
        known = self._planned.get(what)
        if known is not None and known <= when:
            return
        self._planned[what] = when

        def run() -> None:
            if self._planned.get(what) == when:
                del self._planned[what]
                event()

        self.schedule.at(when, run)

    # The office

    def _plan_office(self) -> None:
        """Plan who imports statements, opens lanes and assigns receipts."""
        schedule = self.schedule
        for day in STATEMENT_DAYS:
            at = BEGINNING + timedelta(days=day)
            schedule.at(at, self._pull)
            schedule.at(at, self._open_lanes)
            assigned_at = at + schedule.within(ASSIGNED_WITHIN_S)
            for _ in range(schedule.chance.choice((1, 1, 2))):  # two tellers look at the same list
                schedule.at(assigned_at + schedule.within(TELLERS_WITHIN_S), self.members.assign)
            if self.has_statement:
                may_omit = day != STATEMENT_DAYS[-1] and schedule.chance.random() < 0.25
                schedule.at(at, partial(self._import, omits=may_omit))

    def _import(self, *, omits: bool) -> None:
        """Import the statement from the beginning until now. One with a gap proves nothing; the next one is whole."""
        schedule, rows = self.schedule, list[OutboxRow]()
        file = File(
            account=UTILITY, name="statement.csv", content=self.daraja.statement(omits=omits),
            begins_at=BEGINNING - timedelta(hours=1), ends_at=schedule.now, imported_by="treasurer-1",
        )  # fmt: skip

        def take(tx: Connection) -> None:
            imported = importing.import_file(tx, OWN_CODE, file, self._needed, now=schedule.now)
            rows[:] = [*imported.rows_to_publish] or rows

        def publish() -> None:
            for row in rows:
                self._office.publish(row)

        self._office.do(take, publish)

    def _open_later(self) -> None:
        """Open the lanes once a fault of ours is known, which it is some seconds after it happened."""
        soonest = self.schedule.now + timedelta(seconds=NOTICED_S)
        self._plan("open", soonest + self.schedule.within(OPENED_WITHIN_S), self._open_lanes)

    def _open_lanes(self) -> None:
        """Open the lanes again, once the fault of ours is fixed."""
        now = self.schedule.now

        def open_all(tx: Connection) -> None:
            for name in Lane:
                lanes.open_lane(tx, LaneId(short_code=SHORT_CODE, name=name), reason="fixed", by="treasurer-1", now=now)

        self._office.do(open_all)


def _unassigned(tx: Connection) -> list[OutboxRow]:
    """Return the rows in the outbox whose partition the producer chooses."""
    return [row for row in outbox.leftovers(tx, None, age=timedelta(0)) if row.partition is None]


def _due(tx: Connection) -> list[datetime | None]:
    """Return when a callback is to be decided about next, and when a receipt is to be confirmed."""
    values = {"tries": TRIES_MAX}
    return [tx.execute(each, values).scalar_one() for each in (NEXT_DECISION, NEXT_CONFIRMATION)]


def _declared(providers: Providers) -> dict[str, Sequence[Handler]]:
    return {
        "members": members.handlers.HANDLERS,
        "mobile-money": mobile_money.handlers.handlers(providers),
        "ledger": ledger.handlers.HANDLERS,
        "notifier": notifier.handlers.HANDLERS,
    }
