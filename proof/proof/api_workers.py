"""Requests to services' APIs in a schedule: each is one transaction, which may stand still, fail or crash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from chassis.postgres.transient import is_transient
from chassis.process.callbacks import Callback, store
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from payment.merchants.callbacks import GatewayCallbacks
from proof.connections import ProcessConnection
from proof.databases import NEXT_AWAITED_DUE
from proof.outages import KAFKA, POSTGRESQL
from proof.schedule import Schedule
from proof.service import Service
from proof.tasks import Crash, SimulatedTask

AGAIN_S = 60.0
NEW_ID = "new_id"
STANDS_STILL_S = 4.0


@contextmanager
def ids_of(schedule: Schedule, *modules: ModuleType) -> Iterator[None]:
    """Let these modules of an API draw the ids of its messages from the seed."""
    before = [getattr(each, NEW_ID) for each in modules]
    for each in modules:
        setattr(each, NEW_ID, schedule.new_id)
    try:
        yield
    finally:
        for each, new_id in zip(modules, before, strict=True):
            setattr(each, NEW_ID, new_id)


@dataclass(slots=True, kw_only=True)
class ApiWorker:
    """One thread of a service's API. A request that fails is sent again later, as clients and gateways do."""

    service: Service
    number: int
    connection: ProcessConnection = field(init=False)
    task: SimulatedTask = field(init=False)

    def __post_init__(self) -> None:
        service = self.service
        follow_up = NEXT_AWAITED_DUE if service.handlers.awaited else None
        self.connection = service.database.connection(service.name, self.number, follow_up=follow_up)
        self.task = self.connection.task = SimulatedTask(service.schedule)

    def do(self, act: Callable[[Connection], None], then: Callable[[], None] = lambda: None) -> None:
        """Do something in a transaction of its own, and what follows its commit."""
        schedule, outages = self.service.schedule, self.service.outages
        if outages.is_away(POSTGRESQL) or outages.is_away(self.service.name) or self.task.is_suspended:
            schedule.at(schedule.now + schedule.within(AGAIN_S), lambda: self.do(act, then))
            return
        self.task.run(lambda: self._run(act, then))

    def _run(self, act: Callable[[Connection], None], then: Callable[[], None]) -> None:
        schedule = self.service.schedule
        stops = schedule.strikes("an API stands still in a transaction", 0.2)
        self.task.plan_faults(
            stops_for_s=schedule.chance.uniform(0.1, STANDS_STILL_S) if stops else 0.0,
            fails=schedule.strikes("PostgreSQL fails an API", 0.02),
        )
        try:
            with self.connection.begin() as tx:
                act(tx)
                if schedule.strikes("an API crashes before the commit", 0.02):
                    raise Crash
            self.task.plan_faults()
            if schedule.strikes("an API's answer is lost", 0.05):
                raise Crash
        except (Crash, DBAPIError) as error:
            self.task.plan_faults()
            if isinstance(error, DBAPIError) and not is_transient(error):
                raise
            schedule.at(schedule.now + schedule.within(AGAIN_S), lambda: self.do(act, then))
            return
        self.service.look(self.connection.follow_up_rows)
        then()

    def publish(self, row: OutboxRow) -> None:
        """Publish a row that is committed, now or a little later, and delete it then."""
        service, schedule = self.service, self.service.schedule
        schedule.note(f"{service.name} sends {row.type.rpartition('.')[2]} of saga {row.saga_id[-6:]}", row.saga_id)

        def publish() -> None:
            if (back_at := service.outages.back_at(KAFKA)) is not None:
                schedule.at(back_at, publish)
                return
            service.broker.publish(row, now=schedule.now)
            self.do(lambda tx: outbox.remove(tx, [row.id]))

        late = schedule.strikes("publication delayed", 0.1)
        schedule.at(schedule.now + schedule.within(30 if late else 0.1), publish)


@dataclass(slots=True, kw_only=True)
class GatewayInbox:
    """The inbox of payment's API for gateways' webhooks, as ``chassis.process.callbacks`` stores them."""

    worker: ApiWorker
    stored: Callable[[], None]

    def take(self, adapter: GatewayCallbacks, body: bytes) -> None:
        """Keep a webhook. What is not answered comes again."""
        schedule = self.worker.service.schedule
        self.worker.do(lambda tx: self._keep(tx, adapter, body), self.stored)
        schedule.note(f"{adapter.provider} calls back: {body.decode()}")

    def _keep(self, tx: Connection, adapter: GatewayCallbacks, body: bytes) -> None:
        schedule = self.worker.service.schedule
        callback = Callback(adapter=adapter, headers=[], body=body, at=schedule.now, new_id=schedule.new_id)
        store(tx, [(adapter, callback.pieces())])
