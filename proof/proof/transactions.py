"""The transactions of a service's process in a schedule: PostgreSQL fails, the process crashes around the commit.

Here the chassis' :class:`~chassis.saga.execution.Execution` finds what it runs in. What it does within a transaction,
and how it takes a failed batch apart, is the product's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from chassis.http.downstream import Unavailable
from chassis.postgres.transient import ATTEMPTS_MAX, is_transient
from chassis.process.worker import SWEEP_EVERY_S
from chassis.saga import deferred, outbox
from chassis.saga.announced_calls import AnnouncedCalls
from chassis.saga.outbox import OutboxRow
from chassis.saga.publisher import LEFTOVER_AGE
from chassis.saga.routing import Work
from chassis.saga.unit_of_work import AwaitedPendingCall, AwaitedResult, CallResult, Outgoing, PendingCall
from messages.contract import Message
from proof.connections import ProcessConnection
from proof.outages import KAFKA
from proof.service import Service
from proof.tasks import ZOMBIE_S, Crash, SimulatedTask

JUST_AFTER = timedelta(milliseconds=1)
SLOW_COMMIT_S = 6.0
"""How long a slow commit may take. Even the fastest takes longer than a call's deadline allows for at first."""


@dataclass(slots=True, kw_only=True)
class Transactions:
    """The host of one process's executions, with the outbox rows and call results that it has in memory.

    ``partitions`` are those that the process owns, as its intake changes them.
    """

    service: Service
    name: str
    partitions: set[int]
    connection: ProcessConnection
    task: SimulatedTask
    unpublished: list[OutboxRow] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    results: list[CallResult] = field(default_factory=list)
    late: list[CallResult] = field(default_factory=list)
    """Results that came after their calls' deadlines, until they are committed: no crash loses them. No other
    process knows of a call that was made after a standstill, which is assumed and not proved (decision 7)."""
    awaited_results: list[AwaitedResult] = field(default_factory=list)
    generation: int = 0
    """Counts the crashes."""
    _announced_calls: AnnouncedCalls = field(init=False)

    def __post_init__(self) -> None:
        self._announced_calls = self._new_announced_calls()
        self.service.sweeps.append(self._sweep_later)

    def lose_memory(self) -> None:
        """Lose what a crash loses; a call that is under way has no one to return to."""
        self.generation += 1
        self.unpublished, self.delivered, self.results = [], [], list(self.late)
        self.awaited_results, self._announced_calls = [], self._new_announced_calls()

    # What the execution calls

    def transact(self, work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        """Run the transaction, again and again after a transient error, as ``chassis.postgres.transient`` does."""
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return self._transact_once(work, handle)
            except DBAPIError as error:
                if not is_transient(error):
                    raise
                self.service.schedule.note(f"{self.name} tries again: {error.orig}")
                self.task.sleep(self.service.schedule.chance.random())
        return self._transact_once(work, handle)

    @contextmanager
    def removal(self) -> Iterator[Sequence[str]]:
        """Yield the ids of delivered rows; they are kept for the next removal where the block raises."""
        delivered, self.delivered = self.delivered, []
        try:
            yield delivered
        except BaseException:
            self.delivered = [*delivered, *self.delivered]
            raise

    def committed(self, out: Outgoing) -> None:
        """Publish now or later, and begin the calls; those about attempts once the broker has what announces them."""
        waits_for = self._announced_calls.add(out.awaited_calls)
        self.acknowledge([row_id for row_id in waits_for if row_id in self.delivered])
        self.unpublished.extend(out.rows)
        if not self.service.schedule.strikes("publication delayed", 0.1):
            self.publish()
        for call in out.calls:
            self._begin(call)
        for awaited_call in out.awaited_calls:
            self._fail_in_time(awaited_call)

    def batch_failed(self, error: Exception) -> None:
        """Trace nothing: the errors of the pieces follow."""

    def piece_failed(self, piece: Work, error: Exception) -> None:
        """Trace the error."""
        self.service.schedule.note(f"{self.name} fails: {type(error).__name__}: {error}")

    def _transact_once(self, work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        schedule = self.service.schedule
        stops = schedule.strikes("stands still in a transaction", 0.02)
        fails = schedule.strikes("PostgreSQL fails", 0.02)
        self.task.plan_faults(stops_for_s=schedule.chance.uniform(0.1, ZOMBIE_S) if stops else 0.0, fails=fails)
        with self.connection.begin() as tx:
            out = handle(tx)
            if schedule.strikes("slow commit", 0.02):
                self.connection.raw.settle()
                self.task.sleep(schedule.chance.uniform(SLOW_COMMIT_S / 2, SLOW_COMMIT_S))
            if schedule.strikes("crash before the commit", 0.01):
                raise Crash
        self.late = [each for each in self.late if each not in work.results]
        self.task.plan_faults()
        self.look()
        self._trace(work, out)
        if schedule.strikes("crash between commit and publish", 0.02):
            raise Crash
        if schedule.strikes("the answer to a commit is lost", 0.01):
            self.service.sweep_later()
            raise OperationalError("COMMIT", {}, psycopg.OperationalError("no answer to the commit"))
        return out

    # What the process calls

    def look(self) -> None:
        """Take in when deferred messages are due, as the last commit left them."""
        self.service.look(self.connection.follow_up_rows)

    def publish(self) -> None:
        """Publish in order; a crash in between leaves the rest in the outbox, and what was published there as well."""
        schedule = self.service.schedule
        if self.service.outages.is_away(KAFKA):
            return
        while self.unpublished:
            row = self.unpublished.pop(0)
            self.service.broker.publish(row, now=schedule.now)
            self.acknowledge([row.id])
            if schedule.strikes("published twice", 0.03):
                self.service.broker.publish(row, now=schedule.now)
            if schedule.strikes("crash between publish and removal", 0.01):
                raise Crash
            self.delivered.append(row.id)

    def acknowledge(self, row_ids: Sequence[str] = ()) -> None:
        """Begin the calls that have waited for these rows; those whose time is over fail."""
        if self._announced_calls:
            self._announced_calls.acknowledge(row_ids, now=self.service.schedule.now)

    def remove_delivered(self) -> None:
        """Delete what was published from the outbox."""
        if self.delivered:
            with self.connection.begin() as tx:
                outbox.remove(tx, self.delivered)
            self.delivered = []

    def sweep(self) -> None:
        """Publish what no process has in memory, and wake what is settled, as the worker's sweep does."""
        self.take_leftovers(self.partitions)
        if self.service.handlers.steps and self.partitions:
            with self.connection.begin() as tx:
                deferred.wake_settled(tx, self.partitions, now=self.service.schedule.now)
            self.look()

    def take_leftovers(self, partitions: set[int]) -> None:
        """Take over the outbox rows of these partitions that are not known here."""
        if not partitions:
            return
        with self.connection.begin() as tx:
            left = outbox.leftovers(tx, partitions, age=timedelta(0))
        known = {row.id for row in self.unpublished} | set(self.delivered)
        self.unpublished.extend(row for row in left if row.id not in known)

    def _sweep_later(self) -> None:
        """Let the sweep find what no process has in memory: it takes what is old enough."""
        schedule = self.service.schedule

        def sweep() -> None:
            if self.task.is_suspended:
                schedule.at(schedule.now + timedelta(seconds=SWEEP_EVERY_S), sweep)
            else:
                self.sweep()

        schedule.at(schedule.now + LEFTOVER_AGE + timedelta(seconds=SWEEP_EVERY_S), sweep)

    def _begin(self, call: PendingCall) -> None:
        generation = self.generation

        def is_alive() -> bool:
            return self.generation == generation

        def collect(result: CallResult) -> None:
            if is_alive():
                self.results.append(result)
                if not call.is_query and self.service.schedule.now > call.deadline_at:
                    self.late.append(result)

        self.service.transport.begin(call, collect, is_alive)

    def _new_announced_calls(self) -> AnnouncedCalls:
        generation = self.generation

        def is_alive() -> bool:
            return self.generation == generation

        def collect(result: AwaitedResult) -> None:
            if is_alive():
                self.awaited_results.append(result)

        def fail(call: AwaitedPendingCall, failure: Unavailable) -> None:
            collect(AwaitedResult(call=call, failure=failure))
            self.service.sweep_later()  # what announces the attempt may be in no process's memory

        return AnnouncedCalls(lambda call: self.service.awaited_transport.begin(call, collect, is_alive), fail)

    def _fail_in_time(self, call: AwaitedPendingCall) -> None:
        """Let a call fail whose announcement the broker does not get in time."""
        if call.after is not None:
            self.service.schedule.at(call.begins_by + JUST_AFTER, self.acknowledge)

    def _trace(self, work: Work, out: Outgoing) -> None:
        schedule = self.service.schedule
        if not schedule.is_traced:
            return
        for handler_name, delivery in (*work.deliveries, *work.due):
            again = " again" if delivery.row else ""
            line = f"{self.name} handles {handler_name}{again} of {_short(delivery.message)}"
            schedule.note(line, delivery.message.saga_id)
        for result in work.results:
            what = result.failure.reason if result.failure else type(result.outcome).__name__
            saga_id = result.call.delivery.message.saga_id
            schedule.note(f"{self.name} is answered {result.call.key}: {what}", saga_id)
        for answered in work.awaited_results:
            what = answered.failure.reason if answered.failure else repr(answered.answer)
            call = answered.call
            schedule.note(f"{self.name} is answered {call.act.name} {call.key}: {what}", call.saga_id)
        for saga_id, step in work.awaited_due:
            schedule.note(f"{self.name} goes on with {step}, which is due", saga_id)
        for piece in work.evidence:
            schedule.note(f"{self.name} decides about {piece.source} {piece.outcome} of {piece.step}", piece.saga_id)
        for each in work.unprocessable:
            schedule.note(f"{self.name} cannot process a message on {each.raw.topic}: {each.reason}", each.saga_id)
        for row in out.rows:
            schedule.note(f"{self.name} commits {row.type.rpartition('.')[2]} to {row.topic}", row.saga_id)


def _short(message: Message) -> str:
    return f"{message.FULL_NAME.rpartition('.')[2]} {message.message_id[-6:]} of saga {message.saga_id[-6:]}"
