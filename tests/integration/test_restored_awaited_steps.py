"""A service with an awaited step whose database is restored: what it has published says what it has done.

A restore goes back to a backup of the saga's rows. Then the service's own messages since the backup are replayed, as
``python -m chassis.process.reconcile`` replays them, and the service goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Engine, Table, delete, insert, select, text

from chassis.http.downstream import Unavailable
from chassis.process.published import published_of
from chassis.process.reconcile import Reconciled, Replay
from chassis.process.topic_reader import CannotReconcile
from chassis.saga.answers import Accepted, Proven, Settlement
from chassis.saga.attempts import AwaitedPolicy, Outcome
from chassis.saga.handlers import Handlers
from chassis.saga.schema import service_metadata
from chassis.saga.steps import AwaitedStep
from chassis.saga.triggers import StepRequest
from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from messages.saga import SagaFenced, StepAwaited, StepContradicted
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from stack import Stack
from support.awaiting import CARD, CODEC, PAY, Service, states
from support.builders import a
from support.postgres import scratch_database
from support.toy import MARKS

METADATA = service_metadata(has_awaited_steps=True)
TWO_ATTEMPTS = AwaitedPolicy(no_return=True, attempts_max=2)
REPLIES = (StepAwaited, StepContradicted, SagaFenced, ShipmentBooked, ShipmentRejected, ShipmentCancelled)

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Backup:
    """The rows of a saga, and how much its service had published by then."""

    rows: Mapping[str, Rows]
    published: int


class Restorable(Service):
    """A service that can be set back to a backup. Kafka has what it has published, and what it has read."""

    def backup(self) -> Backup:
        with self.engine.connect() as tx:
            rows = {
                table.name: [
                    {name: value for name, value in row.items() if table.c[name].identity is None}
                    for row in tx.execute(select(table).where(_saga_of(table) == self.saga_id)).mappings()
                ]
                for table in self._tables()
            }
        return Backup(rows=rows, published=len(self.published))

    def restore(self, backup: Backup) -> None:
        self.lose()
        with self.engine.begin() as tx:
            for table in self._tables():
                tx.execute(delete(table).where(_saga_of(table) == self.saga_id))
                if backup.rows[table.name]:
                    tx.execute(insert(table), list(backup.rows[table.name]))

    def reconcile(self, backup: Backup, *answers: object) -> Reconciled:
        """Replay what was published since the backup; the provider answers so."""
        self.bank.answers = list(answers)
        own = [(at, each) for at, each in enumerate(self.published) if at >= backup.published]
        read = published_of(self.handlers, [pair for pair in own if isinstance(pair[1], REPLIES)], self.read)
        replay = Replay("toy", self.handlers, self.engine, CODEC, read, clock=lambda: self.now)
        done = replay.run()
        assert self.bank.answers == [], "each answer was used"
        return done

    def restored(self, backup: Backup, *answers: object) -> None:
        """Restore and reconcile; all must come out as it was published."""
        self.restore(backup)
        done = self.reconcile(backup, *answers)
        assert done.open == []
        again = self.reconcile(backup)
        assert (again.open, again.repeated) == ([], 0), "a reconciliation may be run again"

    def outbox(self) -> list[str]:
        """Return what the service publishes at its start."""
        with self.engine.connect() as tx:
            query = text("SELECT type FROM outbox WHERE aggregateid = :id ORDER BY seq")
            return [str(each).rpartition(".")[2] for each in tx.execute(query, {"id": self.saga_id}).scalars()]

    def attempts(self) -> list[tuple[int, str, bool]]:
        """Return the step's attempts: number, state, and whether it is contradicted."""
        with self.engine.connect() as tx:
            query = text("SELECT number, state, is_contradicted FROM attempts WHERE saga_id = :id AND step = :step")
            rows = tx.execute(query, {"id": self.saga_id, "step": PAY})
            return sorted((row.number, row.state, row.is_contradicted) for row in rows)

    def _tables(self) -> list[Table]:
        return [*METADATA.sorted_tables, MARKS]


def _saga_of(table: Table) -> Any:
    return table.c.aggregateid if table.name == "outbox" else table.c.saga_id


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        METADATA.create_all(engine)
        with engine.begin() as tx:
            MARKS.create(tx)
        yield engine


@pytest.fixture
def service(engine: Engine) -> Restorable:
    return Restorable(engine=engine)


@pytest.fixture
def card(engine: Engine) -> Restorable:
    return Restorable(engine=engine, policy=CARD)


def sent(service: Restorable) -> Backup:
    """Let the step be sent, and return a backup from before its trigger."""
    before = service.backup()
    service.trigger()
    service.acknowledge()
    service.call(Accepted(provider_id="bank:1"))
    return before


def test_an_attempt_that_was_begun_is_known_and_queried_and_never_begun_again(service: Restorable) -> None:
    service.restored(sent(service))
    assert service.state == "UNSURE"
    assert service.outbox() == []
    assert service.deliver(service.read[0][1]) == [], "the redelivered trigger changes nothing"
    assert states(service.fence()) == ["IN_DOUBT"], "it may have been paid"
    service.wait(1)
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY]
    assert types(service.call(Proven(outcome=Outcome.SUCCEEDED, reference="8"))) == ["ShipmentBooked"]
    assert (service.state, service.marks) == ("DONE closing", (1, 0))
    assert service.bank.sent == [f"{service.saga_id}:{PAY}"]


def test_an_accepted_attempt_is_known_and_its_reference_is_published_alike(service: Restorable) -> None:
    before = service.backup()
    service.trigger()
    service.acknowledge()
    (accepted,) = service.call(Accepted(provider_id="bank:1", reference="receipt 1"))
    service.restored(before)
    assert (service.state, service.outbox()) == ("UNSURE", [])
    service.wait(1)
    (again,) = service.call(Accepted(provider_id="bank:1", reference="receipt 1"))
    assert again.message_id == accepted.message_id, "a reader of both has read one message"


def test_without_a_begun_attempt_nothing_was_called_and_the_step_runs_as_if_new(service: Restorable) -> None:
    service.restored(service.backup())
    assert types(service.trigger()) == ["StepAwaited"]


@pytest.mark.parametrize(
    ("outcome", "answer", "state", "marks"),
    [
        (Outcome.SUCCEEDED, Proven(outcome=Outcome.SUCCEEDED, reference="8"), "DONE", (1, 0)),
        (Outcome.SUCCEEDED, Accepted(), "DONE", (1, 0)),
        (Outcome.REFUSED, Proven(outcome=Outcome.REFUSED), "REJECTED", (0, 0)),
    ],
)
def test_an_outcome_that_was_published_stands_whatever_the_provider_knows_of_it(
    service: Restorable, outcome: Outcome, answer: object, state: str, marks: tuple[int, int]
) -> None:
    before = sent(service)
    service.prove(outcome, reference="8")
    service.acknowledge()
    service.restored(before, answer)
    assert (service.state, service.marks) == (state, marks)
    assert service.outbox() == [], "it was published before"
    assert service.prove(outcome) == []
    assert states(service.fence()) == [state]


def test_a_proof_is_judged_by_what_was_requested_before_a_restore_and_after_it(engine: Engine) -> None:
    service, proofs = Restorable(engine=engine), list[Proven]()

    def judge(request: StepRequest, proof: Proven) -> Proven:
        assert request.saga_id == service.saga_id
        return replace(proof, outcome=Outcome.REFUSED) if proof.reference == "another" else proof

    def record(_request: object, settlement: Settlement, _rows: object) -> None:
        proofs.append(settlement.proof)

    (step,) = service.handlers.steps
    assert isinstance(step, AwaitedStep)
    service.handlers = Handlers.of([replace(step, judge=judge, record=record)])
    before = sent(service)
    assert types(service.prove(Outcome.SUCCEEDED, reference="another")) == ["ShipmentRejected"]
    service.acknowledge()
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED, reference="another"))
    assert (service.state, service.outbox()) == ("REJECTED", []), "it contradicts nothing"
    assert [(proof.outcome, proof.reference) for proof in proofs] == [(Outcome.REFUSED, "another")] * 2


def test_a_provider_that_proves_the_opposite_of_what_was_published_contradicts_it_once(service: Restorable) -> None:
    before = sent(service)
    service.prove(Outcome.REFUSED)
    service.acknowledge()
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED, reference="8"))
    assert (service.state, service.marks) == ("REJECTED", (0, 0)), "no row turns round"
    assert service.outbox() == ["StepContradicted"]
    assert service.prove(Outcome.SUCCEEDED) == []


def test_a_contradiction_that_was_published_is_published_no_more(service: Restorable) -> None:
    before = sent(service)
    service.prove(Outcome.REFUSED)
    assert types(service.prove(Outcome.SUCCEEDED)) == ["StepContradicted"]
    service.acknowledge()
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED))
    assert service.outbox() == []
    assert service.prove(Outcome.SUCCEEDED) == []


def test_another_success_after_a_restore_contradicts_the_details_that_the_provider_gave(service: Restorable) -> None:
    before = sent(service)
    service.prove(Outcome.SUCCEEDED, detail="1 piece")
    service.acknowledge()
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED, detail="1 piece"))
    assert service.prove(Outcome.SUCCEEDED, detail="1 piece") == []
    assert types(service.prove(Outcome.SUCCEEDED, detail="2 pieces")) == ["StepContradicted"]
    service.acknowledge()
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED, detail="1 piece"))
    assert service.outbox() == []
    assert service.prove(Outcome.SUCCEEDED, detail="2 pieces") == []


def test_a_step_that_was_in_doubt_is_closing_and_replies_once_more_when_it_is_settled(service: Restorable) -> None:
    before = sent(service)
    assert states(service.fence()) == ["IN_DOUBT"]
    fence = service.read[-1][1]
    service.acknowledge()
    service.restored(before)
    assert service.state == "UNSURE closing"
    assert service.deliver(fence) == [], "it waits for the outcome already"
    assert types(service.prove(Outcome.SUCCEEDED)) == ["ShipmentBooked", "SagaFenced"]


def test_a_cancel_that_may_be_out_is_repeated_and_a_success_alone_settles_nothing(card: Restorable) -> None:
    before = sent(card)
    card.fence()
    card.acknowledge()
    card.restored(before)
    assert card.prove(Outcome.SUCCEEDED) == []
    assert card.state == "UNSURE closing"
    card.lose()
    card.wait(60)
    assert [call.act for call in card.calls] == [AwaitedAct.CANCEL]
    card.call(Proven(outcome=Outcome.VOIDED))
    assert card.state == "FENCED closing"


@pytest.mark.parametrize(
    ("outcome", "answer", "state", "attempt"),
    [
        (Outcome.VOIDED, Proven(outcome=Outcome.VOIDED), "FENCED", "VOIDED"),
        (Outcome.VOIDED, Accepted(), "FENCED", "FAILED"),
        (Outcome.REFUSED, Proven(outcome=Outcome.REFUSED), "REJECTED", "FAILED"),
    ],
)
def test_the_last_reply_to_a_fence_shows_the_outcome_of_a_step_that_published_none(
    card: Restorable, outcome: Outcome, answer: object, state: str, attempt: str
) -> None:
    before = sent(card)
    card.fence()
    fence = card.read[-1][1]
    card.lose()
    assert states(card.prove(outcome)) == [state]
    card.acknowledge()
    card.restored(before, answer)
    assert card.state == f"{state} closing"
    assert card.attempts() == [(1, attempt, False)]
    assert card.outbox() == []
    assert states(card.deliver(fence)) == [state]


def test_a_fence_that_waited_in_the_backup_for_days_is_replied_to_as_it_was_published(card: Restorable) -> None:
    sent(card)
    card.fence()
    card.acknowledge()
    waiting = card.backup()
    card.read.clear()
    card.lose()
    card.now += (card.handlers.awaited[PAY].call.duration) * 100_000
    assert states(card.prove(Outcome.VOIDED)) == ["FENCED"]
    card.acknowledge()
    card.restored(waiting, Proven(outcome=Outcome.VOIDED))
    assert (card.state, card.outbox()) == ("FENCED closing", [])


def second_attempt(service: Restorable) -> Backup:
    """Let the first attempt fail by our fault, and a second one be sent."""
    before = sent(service)
    service.prove(Outcome.FAILED)
    service.wait(100)
    service.acknowledge()
    service.call(Accepted(provider_id="bank:2"))
    return before


def test_the_highest_attempt_is_open_and_those_before_it_had_failed(engine: Engine) -> None:
    service = Restorable(engine=engine, policy=TWO_ATTEMPTS)
    service.restored(second_attempt(service))
    assert (service.state, service.attempts()) == ("UNSURE", [(1, "FAILED", False), (2, "OPEN", False)])
    assert types(service.prove(Outcome.SUCCEEDED, 1)) == ["ShipmentBooked", "StepContradicted"]


def test_a_step_that_an_earlier_attempt_settled_does_not_hide_that_the_later_one_succeeds_too(engine: Engine) -> None:
    service = Restorable(engine=engine, policy=TWO_ATTEMPTS)
    before = second_attempt(service)
    assert types(service.prove(Outcome.SUCCEEDED, 1)) == ["ShipmentBooked", "StepContradicted"]
    service.acknowledge()
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED, reference="1"))
    assert (service.state, service.attempts()) == ("DONE", [(1, "FAILED", True), (2, "OPEN", False)])
    (twice,) = service.prove(Outcome.SUCCEEDED, 2)
    assert isinstance(twice, StepContradicted)
    assert twice.attempt == 2


def test_an_attempt_of_the_backup_may_have_been_sent_since_so_no_statement_from_before_proves_its_absence(
    service: Restorable,
) -> None:
    service.trigger()
    service.acknowledge()
    service.call(Unavailable("the answer was lost"))
    backup = service.backup()
    service.wait(10)
    service.restore(backup)
    service.now += service.handlers.awaited[PAY].call.duration * 1_000
    assert service.reconcile(backup).open_steps >= 1
    with service.engine.connect() as tx:
        query = text("SELECT last_sent_at, sends FROM attempts WHERE saga_id = :id")
        row = tx.execute(query, {"id": service.saga_id}).one()
    assert row.last_sent_at >= service.now
    assert service.state == "UNSURE"


def test_an_undo_that_was_begun_waits_for_its_proof_and_one_that_was_replied_to_is_done(engine: Engine) -> None:
    service = Restorable(engine=engine, policy=CARD, refunds_later=True)
    sent(service)
    service.prove(Outcome.SUCCEEDED)
    service.acknowledge()
    done = service.backup()
    command = a(CancelShipment, saga_id=service.saga_id, step=PAY)
    assert types(service.deliver(command)) == ["StepAwaited"]
    service.acknowledge()
    service.call(Accepted(provider_id="bank:9"))
    service.restored(done)
    assert service.deliver(command) == []
    assert types(service.prove(Outcome.SUCCEEDED, step=f"{PAY}:undo")) == ["ShipmentCancelled"]
    service.acknowledge()
    service.restored(done, Proven(outcome=Outcome.SUCCEEDED))
    assert (service.state, service.marks, service.outbox()) == ("UNDONE", (1, 1), [])
    assert types(service.deliver(command)) == ["ShipmentCancelled"], "the same reply again"
    assert service.bank.sent == [f"{service.saga_id}:{PAY}", f"{service.saga_id}:{PAY}:undo"]


def test_the_undo_of_a_stray_success_is_known_by_the_contradiction_that_announced_it(engine: Engine) -> None:
    service = Restorable(engine=engine, policy=CARD, undoes_strays=True)
    before = sent(service)
    service.prove(Outcome.REFUSED)
    service.prove(Outcome.SUCCEEDED)
    service.acknowledge()
    service.call(Accepted(provider_id="bank:3"))
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED))
    service.wait(1)
    assert [(call.act, call.key) for call in service.calls] == [
        (AwaitedAct.QUERY, f"{service.saga_id}:{PAY}:stray:1")
    ], "it is queried, and not sent again"
    assert service.call(Proven(outcome=Outcome.SUCCEEDED)) == []


def test_while_a_provider_does_not_answer_nothing_is_settled(service: Restorable) -> None:
    before = sent(service)
    service.prove(Outcome.SUCCEEDED)
    service.acknowledge()
    service.restore(before)
    with pytest.raises(CannotReconcile, match="Run this again when it answers"):
        service.reconcile(before, Unavailable("does not answer"))
    assert (service.state, service.marks) == ("UNSURE", (0, 0))
    service.restored(before, Proven(outcome=Outcome.SUCCEEDED))
    assert (service.state, service.marks) == ("DONE", (1, 0))
