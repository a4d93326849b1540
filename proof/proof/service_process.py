"""A service's process in a schedule: the product's own routing and execution; around them everything may go wrong.

What a process keeps in memory (messages fetched, calls under way, rows to publish) is lost in a crash; what it
committed is in PostgreSQL. It does what ``chassis.process.worker`` does, in the same order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.exc import DBAPIError

from chassis.process.callbacks import match_orphans
from chassis.process.worker import DUE_MAX
from chassis.saga import attempt_rows, deferred, evidence
from chassis.saga.deferred import Deferral
from chassis.saga.execution import Execution
from chassis.saga.outbox import OutboxRow
from chassis.saga.routing import Router, Work
from proof.databases import AWAITED, NEXT_AWAITED_DUE, NEXT_DUE, ORPHANS
from proof.intake import FaultyDecoder, Intake
from proof.outages import KAFKA, POSTGRESQL
from proof.service import Service
from proof.tasks import Crash, SimulatedTask
from proof.transactions import Transactions


@dataclass(slots=True, kw_only=True)
class Process:
    """One process of a service."""

    service: Service
    number: int
    task: SimulatedTask = field(init=False)
    paused_until: datetime | None = None
    _intake: Intake = field(init=False)
    _transactions: Transactions = field(init=False)
    _router: Router = field(init=False)
    _execution: Execution = field(init=False)

    def __post_init__(self) -> None:
        service, schedule = self.service, self.service.schedule
        connection = service.database.connection(
            service.name, self.number, follow_up=NEXT_AWAITED_DUE if service.handlers.awaited else NEXT_DUE
        )
        self.task = connection.task = SimulatedTask(schedule)
        self._intake = Intake(service=service)
        self._transactions = Transactions(
            service=service, name=self.name, partitions=self._intake.partitions, connection=connection, task=self.task
        )
        self._router = Router(service.name, service.handlers, FaultyDecoder(codec=service.codec, schedule=schedule))
        self._execution = Execution(
            service.name,
            service.handlers,
            service.codec,
            self._transactions,
            clock=lambda: schedule.now,
            new_id=schedule.new_id,
            jitter=lambda: random.Random(schedule.chance.random()),
        )

    @property
    def name(self) -> str:
        """Its name in a trace."""
        return f"{self.service.name}/{self.number}"

    @property
    def partitions(self) -> set[int]:
        """The partitions that it takes for its own."""
        return self._intake.partitions

    @property
    def unpublished(self) -> list[OutboxRow]:
        """The committed rows that it has not published yet."""
        return self._transactions.unpublished

    @property
    def member(self) -> str | None:
        """Its id in its consumer group, another one after each crash; None while it does not run."""
        outages = self.service.outages
        has_left = self.is_paused and not outages.is_away(POSTGRESQL)
        return None if has_left else f"{self.name}/{self._transactions.generation}"

    @property
    def is_paused(self) -> bool:
        """Return whether it stands still now."""
        schedule, outages = self.service.schedule, self.service.outages
        if outages.is_away(self.service.name) or outages.is_away(POSTGRESQL):
            return True
        return self.paused_until is not None and schedule.now < self.paused_until and schedule.are_faults_on

    @property
    def is_ready(self) -> bool:
        """Return whether there is anything that it could do now."""
        if self.task.is_suspended or self.is_paused:
            return False
        if self._has_own_work():
            return True
        if self.unpublished and not self.service.outages.is_away(KAFKA):
            return True
        return self._intake.has_due() or self._intake.has_unfetched()

    # Partitions and crashes

    def own(self, partition: int) -> None:
        """Become the owner of a partition, and go on where the group committed."""
        self._intake.own(partition)

    def take_over(self, partition: int) -> None:
        """Become the owner of a partition that had one: publish what is left over for it."""
        self.own(partition)
        self._transactions.take_leftovers({partition})

    def lose(self, partition: int) -> None:
        """Notice that another process owns a partition now."""
        self._intake.lose(partition)

    def kill(self) -> None:
        """Kill it, wherever it stands."""
        if self.task.is_suspended:
            self.task.kill()
        else:
            self.crash()

    def crash(self) -> None:
        """Lose everything in memory, and begin again."""
        self.task.plan_faults()
        self.service.schedule.note(f"{self.name} crashes and starts again")
        self._intake.fetched = []
        self._transactions.lose_memory()
        for partition in sorted(self.partitions):
            self.take_over(partition)

    # The loop

    def step(self) -> None:
        """Do one round of the loop."""
        transactions, intake = self._transactions, self._intake
        try:
            transactions.publish()
            intake.fetch()
            due = self._take_due()
            if not (due or self._has_own_work()):
                return
            raws, intake.fetched = intake.fetched, []
            results, transactions.results = transactions.results, []
            awaited_results, transactions.awaited_results = transactions.awaited_results, []
            ends = dict(intake.positions)
            work = replace(self._router.route(raws, due), results=results, awaited_results=awaited_results)
            if work := self._with_awaited(work):
                self._execution.run(work)
            intake.store_offsets(ends)
        except (Crash, DBAPIError):
            self.crash()

    def tidy(self) -> None:
        """Delete what was published from the outbox."""
        self._transactions.remove_delivered()

    def take_leftovers(self) -> None:
        """Publish what no process has in memory, and wake what is settled, as the worker's sweep does."""
        self._transactions.sweep()

    def _has_own_work(self) -> bool:
        """Return whether something is fetched or has come back, or is due at awaited steps."""
        transactions = self._transactions
        has_results = bool(transactions.results or transactions.awaited_results)
        return bool(self._intake.fetched) or has_results or self._has_awaited_due()

    def _has_awaited_due(self) -> bool:
        if not self.partitions:
            return False
        return self.service.is_due(AWAITED, self.partitions) or self.service.is_due(ORPHANS, (0,))

    def _with_awaited(self, work: Work) -> Work:
        """Match orphans again; add the ladders that are due and the evidence that came, as the worker does."""
        if not self._has_awaited_due():
            return work
        now = self.service.schedule.now
        with self._transactions.connection.begin() as tx:
            match_orphans(tx, self.service.adapters, now=now)
            due = attempt_rows.due(tx, self.partitions, now=now, limit=DUE_MAX)
            pieces = evidence.waiting(tx, self.partitions, now=now, limit=DUE_MAX)
        self._transactions.look()
        return replace(work, awaited_due=due, evidence=pieces)

    def _take_due(self) -> list[Deferral]:
        if not self._intake.has_due():
            return []
        with self._transactions.connection.begin() as tx:
            return deferred.due(tx, self.partitions, now=self.service.schedule.now, limit=DUE_MAX)
