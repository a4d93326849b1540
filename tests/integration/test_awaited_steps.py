"""A step whose outcome comes later, on real PostgreSQL: called once Kafka knows of it, settled by evidence alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from chassis.http.downstream import TooLate, Unavailable
from chassis.saga import evidence
from chassis.saga.answers import Accepted, NotFound, Proven
from chassis.saga.attempts import AwaitedPolicy, Outcome
from chassis.saga.evidence import Claim, Fate
from chassis.saga.routing import Work
from chassis.saga.schema import service_metadata
from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from messages.contract import Message
from messages.saga import RedriveStep, StepAwaited, StepContradicted, StepRedriven
from messages.shipping import CancelShipment, ShipmentBooked, ShipmentCancelled, ShipmentRejected
from stack import Stack
from support.awaiting import CARD, PAY, PAYOUT, Service, states
from support.builders import a
from support.postgres import scratch_database
from support.toy import MARKS


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        service_metadata(has_awaited_steps=True).create_all(engine)
        with engine.begin() as tx:
            MARKS.create(tx)
        yield engine


@pytest.fixture
def service(engine: Engine) -> Service:
    return Service(engine=engine)


@pytest.fixture
def card(engine: Engine) -> Service:
    return Service(engine=engine, policy=CARD)


def test_the_call_begins_only_after_kafka_has_its_attempt_and_evidence_settles_it_once(service: Service) -> None:
    (begun,) = service.trigger()
    assert isinstance(begun, StepAwaited)
    assert (begun.step, begun.attempt, begun.key) == (PAY, 1, f"{service.saga_id}:{PAY}")
    assert [(call.act, call.after) for call in service.calls] == [(AwaitedAct.SEND, begun.message_id)]
    assert service.trigger() == [], "a redelivered trigger changes nothing"
    assert service.call(Accepted(provider_id="bank:1")) == []
    assert (service.state, service.marks) == ("SENT", (0, 0)), "an acknowledgement is no outcome"
    service.now += timedelta(days=3)
    (done,) = service.prove(Outcome.SUCCEEDED, reference="receipt 8")
    assert isinstance(done, ShipmentBooked)
    assert done.tracking_number == "receipt 8"
    assert (service.state, service.marks) == ("DONE", (1, 0))
    assert service.prove(Outcome.SUCCEEDED) == []
    assert service.wait(100_000) == []
    assert (service.calls, service.bank.sent, service.marks) == ([], [f"{service.saga_id}:{PAY}"], (1, 0))
    assert service.fates == [Fate.SETTLED, Fate.REPEATED]


def test_the_reference_of_an_accepted_attempt_is_published_once(service: Service) -> None:
    (begun,) = service.trigger()
    service.now += timedelta(seconds=2)
    (accepted,) = service.call(Accepted(provider_id="bank:1", reference="receipt 1"))
    assert isinstance(begun, StepAwaited)
    assert isinstance(accepted, StepAwaited)
    assert (begun.reference, accepted.reference) == (None, "receipt 1")
    assert (accepted.attempt, accepted.key, accepted.since) == (1, begun.key, begun.since)
    assert (accepted.causation_id, accepted.message_id != begun.message_id) == (begun.causation_id, True)
    service.wait(100)
    assert service.call(Accepted(provider_id="bank:1", reference="receipt 1")) == []
    service.wait(100)
    assert types(service.call(Proven(outcome=Outcome.SUCCEEDED))) == ["ShipmentBooked"]


def test_the_reference_of_an_attempt_whose_outcome_is_known_is_not_published(service: Service) -> None:
    service.trigger()
    assert types(service.prove(Outcome.SUCCEEDED)) == ["ShipmentBooked"]
    assert service.call(Accepted(provider_id="bank:1", reference="receipt 1")) == []


def test_a_query_publishes_the_reference_where_the_answer_to_the_call_was_lost(service: Service) -> None:
    service.trigger()
    service.acknowledge()
    service.call(Unavailable("the answer was lost"))
    service.wait(10)
    (accepted,) = service.call(Accepted(provider_id="bank:1", reference="receipt 1"))
    assert isinstance(accepted, StepAwaited)
    assert accepted.reference == "receipt 1"


def test_without_an_answer_it_is_queried_and_the_same_key_is_sent_again_where_it_is_not_found(service: Service) -> None:
    service.trigger()
    service.call(Unavailable("the answer was lost"))
    assert service.state == "STARTED"
    assert service.wait(1) == []
    assert service.calls == [], "nothing is done before the call is over"
    service.wait(10)
    assert (service.state, [call.act for call in service.calls]) == ("UNSURE", [AwaitedAct.QUERY])
    service.call(NotFound())
    assert (service.state, service.calls) == ("UNSURE", [])
    service.acknowledge()
    service.wait(60)
    assert [(call.act, call.after) for call in service.calls] == [(AwaitedAct.SEND, None)]
    service.call(Unavailable("the answer was lost"))
    service.wait(10)
    (done,) = service.call(Proven(outcome=Outcome.SUCCEEDED))
    assert types([done]) == ["ShipmentBooked"]
    assert set(service.bank.sent) == {f"{service.saga_id}:{PAY}"}
    assert (len(service.bank.sent), service.marks) == (2, (1, 0))


def test_while_kafka_may_lack_the_attempt_no_repeated_call_begins_either(service: Service) -> None:
    (begun,) = service.trigger()
    service.call(TooLate("Kafka had not acknowledged its attempt in time"))
    service.wait(10)
    assert [(call.act, call.after) for call in service.calls] == [(AwaitedAct.SEND, begun.message_id)]


def test_a_call_that_a_crash_prevented_is_made_under_the_same_key(service: Service) -> None:
    service.trigger()
    service.lose()
    service.wait(10)
    service.call(NotFound())
    service.wait(60)
    service.call(Accepted())
    assert (service.state, service.bank.sent) == ("SENT", [f"{service.saga_id}:{PAY}"])


def test_a_call_that_was_not_made_in_time_is_made_later_and_counts_as_no_send(engine: Engine) -> None:
    service = Service(engine=engine, policy=replace(PAYOUT, sends_max=1))
    service.trigger()
    service.call(TooLate("Kafka acknowledged too late"))
    service.wait(10)
    assert [call.act for call in service.calls] == [AwaitedAct.SEND]
    service.call(Accepted())
    assert (service.state, len(service.bank.sent)) == ("SENT", 2)


def test_a_refusal_rejects_the_step(service: Service) -> None:
    service.trigger()
    (rejected,) = service.call(Proven(outcome=Outcome.REFUSED))
    assert isinstance(rejected, ShipmentRejected)
    assert (service.state, service.marks) == ("REJECTED", (0, 0))


def test_a_new_attempt_has_a_new_key_and_follows_only_the_proof_that_the_one_before_failed(engine: Engine) -> None:
    service = Service(engine=engine, policy=replace(PAYOUT, attempts_max=2))
    service.trigger()
    service.call(Accepted())
    service.wait(100)
    service.call(Accepted())
    assert set(service.bank.sent) == {f"{service.saga_id}:{PAY}"}, "no time leads to another attempt"
    assert service.prove(Outcome.FAILED) == []
    assert (service.state, service.calls) == ("PAUSED", [])
    (begun,) = service.wait(4_000)
    assert isinstance(begun, StepAwaited)
    assert (begun.attempt, begun.key) == (2, f"{service.saga_id}:{PAY}:2")
    assert [call.after for call in service.calls] == [begun.message_id]
    service.call(Accepted())
    assert types(service.prove(Outcome.FAILED, 2)) == ["ShipmentRejected"]


def test_a_fence_replies_at_once_that_the_step_is_in_doubt_and_once_more_when_it_is_paid(service: Service) -> None:
    service.trigger()
    service.call(Accepted())
    assert states(service.fence()) == ["IN_DOUBT"]
    assert service.state == "SENT closing"
    assert states(service.wait(86_400)) == [], "no time settles it"
    service.lose()
    settled = service.prove(Outcome.SUCCEEDED)
    assert types(settled) == ["ShipmentBooked", "SagaFenced"], "nothing undoes it, so its saga goes forward"
    assert states(settled) == ["DONE"]


def test_a_fence_that_meets_a_call_waits_for_its_end_and_then_replies_that_it_is_in_doubt(service: Service) -> None:
    service.trigger()
    assert service.fence() == []
    assert service.state == "STARTED closing"
    service.lose()
    assert states(service.wait(10)) + states(service.wait(0)) == ["IN_DOUBT"]
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY], "a closing step sends nothing"
    service.call(NotFound())
    service.wait(60)
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY]


def test_a_step_that_can_be_undone_is_cancelled_and_its_late_success_is_published_by_no_event(card: Service) -> None:
    card.trigger()
    card.call(Accepted())
    assert states(card.fence()) == ["IN_DOUBT"]
    assert [call.act for call in card.calls] == [AwaitedAct.CANCEL]
    card.call(Proven(outcome=Outcome.CANCEL_REFUSED))
    settled = card.prove(Outcome.SUCCEEDED)
    assert (types(settled), states(settled)) == (["SagaFenced"], ["DONE"])
    (undone,) = card.deliver(a(CancelShipment, saga_id=card.saga_id, step=PAY))
    assert isinstance(undone, ShipmentCancelled)
    assert (undone.undone, card.state, card.marks) == (True, "UNDONE closing", (1, 1))


def test_a_cancel_that_voids_it_fences_the_step(card: Service) -> None:
    card.trigger()
    card.call(Accepted())
    card.fence()
    settled = card.call(Proven(outcome=Outcome.VOIDED)) + card.wait(0)
    assert states(settled) == ["FENCED"]
    assert (card.state, card.marks) == ("FENCED closing", (0, 0))


def test_a_compensation_waits_for_the_outcome_of_a_step_that_is_in_doubt(card: Service) -> None:
    card.trigger()
    card.call(Accepted())
    assert card.deliver(a(CancelShipment, saga_id=card.saga_id, step=PAY)) == []
    card.lose()
    assert card.wait(100) == []
    card.calls.clear()
    settled = card.prove(Outcome.REFUSED)
    assert types(settled) == ["ShipmentCancelled"]
    assert (card.state, card.marks) == ("REJECTED closing", (0, 0))


def paid(engine: Engine) -> Service:
    """Return a service whose step is paid, and whose refund is proven later."""
    service = Service(engine=engine, policy=AwaitedPolicy(no_return=False), refunds_later=True)
    service.trigger()
    assert types(service.call(Proven(outcome=Outcome.SUCCEEDED))) == ["ShipmentBooked"]
    service.bank.sent.clear()
    return service


def refund(service: Service, attempt: int = 1) -> list[Message]:
    return service.deliver(a(CancelShipment, saga_id=service.saga_id, step=PAY, attempt=attempt))


def test_a_refund_is_replied_to_on_its_proof_and_not_on_its_acknowledgement(engine: Engine) -> None:
    service = paid(engine)
    (begun,) = refund(service)
    assert isinstance(begun, StepAwaited)
    assert (begun.step, begun.undo, begun.attempt, begun.key) == (PAY, True, 1, f"{service.saga_id}:{PAY}:undo")
    assert [call.after for call in service.calls] == [begun.message_id]
    assert service.call(Accepted()) == []
    assert refund(service, 2) == [], "the command that is sent again begins nothing"
    assert service.wait(100) == []
    service.lose()
    assert (service.state, service.marks) == ("DONE", (1, 0))
    replies = service.prove(Outcome.SUCCEEDED, step=f"{PAY}:undo")
    assert types(replies) == ["ShipmentCancelled", "ShipmentCancelled"], "each command has its reply"
    assert [each.undone for each in replies if isinstance(each, ShipmentCancelled)] == [True, False]
    assert (service.state, service.marks) == ("UNDONE", (1, 1))
    assert service.bank.sent == [f"{service.saga_id}:{PAY}:undo"]


def test_a_refund_without_an_answer_is_sent_again_under_its_one_key(engine: Engine) -> None:
    service = paid(engine)
    refund(service)
    service.acknowledge()
    service.call(Unavailable("the answer was lost"))
    service.wait(10)
    service.call(NotFound())
    service.wait(60)
    service.call(Unavailable("the answer was lost"))
    service.wait(10)
    settled = service.call(Proven(outcome=Outcome.SUCCEEDED)) + service.wait(0)
    assert types(settled) == ["ShipmentCancelled"]
    assert service.bank.sent == [f"{service.saga_id}:{PAY}:undo"] * 2


def test_a_refund_that_fails_for_good_is_a_dead_command(engine: Engine) -> None:
    service = paid(engine)
    refund(service)
    assert service.call(Proven(outcome=Outcome.REFUSED)) + service.wait(0) == []
    assert service.letters == [f"{PAY}.dlq"]
    assert (service.state, service.marks) == ("DONE", (1, 0))


def test_a_refund_of_what_never_ran_undoes_nothing(engine: Engine) -> None:
    service = Service(engine=engine, policy=AwaitedPolicy(no_return=False), refunds_later=True)
    (reply,) = refund(service)
    assert isinstance(reply, ShipmentCancelled)
    assert (reply.undone, service.state, service.calls) == (False, "FENCED closing", [])


def test_at_the_end_of_a_refunds_ladder_a_person_is_called_and_a_new_command_begins_it_anew(engine: Engine) -> None:
    service = paid(engine)
    refund(service)
    service.call(Accepted())
    while not service.letters:
        service.wait(4_000)
        service.lose()
    assert service.letters == [f"{PAY}.dlq"]
    refund(service, 2)
    service.wait(0)
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY]
    service.lose()
    assert types(service.prove(Outcome.SUCCEEDED, step=f"{PAY}:undo")) == ["ShipmentCancelled"] * 2


def test_a_payment_after_its_refusal_turns_no_row_and_is_published_once(service: Service) -> None:
    service.trigger()
    service.call(Proven(outcome=Outcome.REFUSED))
    (contradicted,) = service.prove(Outcome.SUCCEEDED, reference="row 812")
    assert isinstance(contradicted, StepContradicted)
    assert (contradicted.recorded, contradicted.proven) == ("FAILED", "SUCCEEDED")
    assert (contradicted.source, contradicted.reference, contradicted.attempt) == ("callback", "row 812", 1)
    assert service.prove(Outcome.SUCCEEDED) == []
    assert (service.state, service.marks) == ("REJECTED", (0, 0))
    assert service.fates == [Fate.CONTRADICTED, Fate.REPEATED]


def test_a_second_success_with_other_details_turns_no_row_and_is_published_once(service: Service) -> None:
    service.trigger()
    service.acknowledge()
    service.call(Accepted())
    service.prove(Outcome.SUCCEEDED, detail="1 piece")
    assert service.prove(Outcome.SUCCEEDED, detail="1 piece") == []
    (contradicted,) = service.prove(Outcome.SUCCEEDED, detail="2 pieces", reference="row 9")
    assert isinstance(contradicted, StepContradicted)
    assert (contradicted.recorded, contradicted.proven) == ("SUCCEEDED", "SUCCEEDED")
    assert (contradicted.source, contradicted.reference, contradicted.attempt) == ("callback", "row 9", 1)
    assert service.prove(Outcome.SUCCEEDED, detail="3 pieces") == []
    assert (service.state, service.marks) == ("DONE", (1, 0))
    assert service.fates == ["SETTLED", "REPEATED", "CONTRADICTED", "REPEATED"]


def test_the_answer_to_a_query_contradicts_the_details_of_a_callback(service: Service) -> None:
    service.trigger()
    service.acknowledge()
    service.call(Accepted())
    service.wait(100)
    service.prove(Outcome.SUCCEEDED, detail="1 piece")
    (contradicted,) = service.call(Proven(outcome=Outcome.SUCCEEDED, detail="2 pieces"))
    assert isinstance(contradicted, StepContradicted)
    assert (contradicted.recorded, contradicted.proven, contradicted.source) == ("SUCCEEDED", "SUCCEEDED", "query")


def test_a_body_that_was_matched_by_our_key_and_is_of_another_attempt_settles_nothing(service: Service) -> None:
    service.trigger()
    service.receive(Outcome.SUCCEEDED, step=PAY, provider_id="bank:2")
    service.call(Accepted(provider_id="bank:1"))
    assert service.decide() == []
    assert (service.state, service.waiting(), service.fates) == ("SENT", [], [])
    service.wait(100)
    service.call(Accepted(provider_id="bank:1"))
    assert service.bank.queried[-1] == (f"{service.saga_id}:{PAY}", "bank:1"), "the provider's id is as it was"
    with service.engine.begin() as tx:
        orphan = next(each for each in evidence.orphans(tx, now=service.now) if each.claim == strange_claim(service))
        assert evidence.match(tx, [(orphan, orphan.claim)], now=service.now) == 0
    assert types(service.prove(Outcome.SUCCEEDED, provider_id="bank:1")) == ["ShipmentBooked"]


def strange_claim(service: Service) -> Claim:
    return Claim(outcome=Outcome.SUCCEEDED, key=f"{service.saga_id}:{PAY}", provider_id="bank:2")


def test_the_first_id_of_a_provider_stays(card: Service) -> None:
    card.trigger()
    card.prove(Outcome.CANCEL_REFUSED, provider_id="bank:1")
    card.call(Accepted(provider_id="bank:2"))
    card.wait(100)
    card.call(Accepted(provider_id="bank:2"))
    assert card.bank.queried == [(f"{card.saga_id}:{PAY}", "bank:1")]


def test_at_the_end_of_the_ladder_a_person_is_called_and_evidence_still_settles(service: Service) -> None:
    service.trigger()
    service.call(Accepted())
    while not service.letters:
        service.wait(4_000)
        service.lose()
    assert service.letters == [f"{PAY}.dlq"]
    assert service.wait(100_000) == []
    assert service.calls == [], "it is queried no more"
    (redriven,) = service.deliver(a(RedriveStep, saga_id=service.saga_id, step=PAY, attempt=1))
    assert isinstance(redriven, StepRedriven)
    assert redriven.outcome == "RESUMED"
    service.wait(0)
    assert [call.act for call in service.calls] == [AwaitedAct.QUERY]
    service.lose()
    assert types(service.prove(Outcome.SUCCEEDED)) == ["ShipmentBooked"]


def test_evidence_at_which_a_handler_fails_is_kept_and_decided_about_later(service: Service) -> None:
    service.trigger(customer_id="poison")
    service.call(Accepted())
    with pytest.raises(RuntimeError, match="a handler of ours fails"):
        service.prove(Outcome.SUCCEEDED)
    assert service.work(Work(evidence=service.waiting()), fails=RuntimeError("a handler of ours fails")) == []
    assert service.decide() == [], "it waits"
    service.now += timedelta(minutes=2)
    with pytest.raises(RuntimeError, match="a handler of ours fails"):
        service.decide()
    assert (service.state, service.fates) == ("SENT", [None])


def test_a_cancel_begins_only_after_kafka_has_its_attempt(card: Service) -> None:
    (begun,) = card.trigger()
    card.call(Unavailable("the answer was lost"))
    card.wait(10)
    card.lose()
    card.fence()
    assert [(call.act, call.after) for call in card.calls] == [(AwaitedAct.CANCEL, begun.message_id)]
    card.lose()
    card.acknowledge()
    card.wait(3_700)
    assert [(call.act, call.after) for call in card.calls] == [(AwaitedAct.CANCEL, None)]


STRAY = f"{PAY}:stray:1"


@pytest.fixture
def returning(engine: Engine) -> Service:
    """A service whose provider can undo a success that belongs to no step."""
    return Service(engine=engine, policy=CARD, undoes_strays=True)


def strayed(service: Service) -> StepContradicted:
    """Let an attempt be refused, and be paid after all."""
    service.trigger()
    service.call(Accepted(provider_id="bank:1"))
    service.prove(Outcome.REFUSED)
    (contradicted,) = service.prove(Outcome.SUCCEEDED)
    assert isinstance(contradicted, StepContradicted)
    return contradicted


def test_a_success_that_belongs_to_no_step_is_undone_by_the_service_once_it_is_announced(returning: Service) -> None:
    contradicted = strayed(returning)
    assert contradicted.undone_by_service
    (call,) = returning.calls
    assert (call.act, call.after, call.key) == (
        AwaitedAct.SEND,
        contradicted.message_id,
        f"{returning.saga_id}:{STRAY}",
    )
    assert call.request == f"return {returning.saga_id}:{PAY} bank:1"
    assert returning.call(Accepted()) == []
    assert returning.prove(Outcome.SUCCEEDED, step=STRAY) == [], "it was announced, and no command waits for its end"
    assert (returning.state, returning.marks, returning.letters) == ("REJECTED", (0, 0), [])
    assert returning.prove(Outcome.SUCCEEDED) == [], "it strays once"
    assert returning.calls == []


def test_a_stray_success_that_is_not_undone_calls_a_person(returning: Service) -> None:
    strayed(returning)
    returning.call(Proven(outcome=Outcome.REFUSED))
    assert returning.letters == ["toy.dlq"]
    other = Service(engine=returning.engine, policy=CARD)
    assert not strayed(other).undone_by_service
    assert (other.calls, other.letters) == ([], ["toy.dlq"])


def test_without_an_answer_the_undo_of_a_stray_is_queried_and_its_ladder_ends_with_a_person(returning: Service) -> None:
    strayed(returning)
    returning.acknowledge()
    returning.call(Unavailable("the answer was lost"))
    for wait_s in (10, 60, 100, 3_700, 3_700, 3_700, 3_700):
        returning.lose()
        returning.wait(wait_s)
    assert returning.letters == [f"{PAY}.dlq"]
    assert types(returning.deliver(a(RedriveStep, saga_id=returning.saga_id, step=PAY, attempt=1))) == ["StepRedriven"]
    returning.wait(1)
    assert [call.act for call in returning.calls] == [AwaitedAct.QUERY], "a redrive begins its ladder anew"
    assert returning.call(Proven(outcome=Outcome.SUCCEEDED)) == []
