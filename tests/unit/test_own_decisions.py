"""The tracker's decisions as messages: what is read back is the fact that was decided, with the same timeline entry."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.saga import OperatorActed
from proof.schemas import LocalRegistry
from saga_tracker.definitions import newest
from saga_tracker.ingest import decisions
from saga_tracker.ingest.decisions import AppliedAct, InvalidDecision, OwnDecision
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.model.contradictions import Settled
from saga_tracker.model.facts import NOTHING, Cancelled, Fact, Redriven, ReplyOverdue, Resolution, Resolved, TimedOut
from saga_tracker.model.saga import DECISIONS_TOPIC
from saga_tracker.store.plans import ActKind
from saga_tracker.store.sagas import SagaRow

AT = datetime(2026, 11, 21, 10, 0, 0, 123_456, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 10, 1, 0, 654_321, tzinfo=UTC)
CANCELLED = Cancelled(at=AT, by="staff-1", reason="asked")
COMPENSATED = Cancelled(at=NOW, by="operator-1", reason="fixed")
REDRIVEN = Redriven(
    round_="fence", number=3, at=NOW, by="operator-1", reason="fixed", letters=frozenset({"letter-1", "letter-2"})
)

SETTLED = Settled(
    contradictions=frozenset({"collect_parcel 1", "collect_parcel 2"}), at=NOW, by="operator-1", reason="fixed"
)


@pytest.fixture
def saga() -> TrackedSaga:
    row = SagaRow(
        saga_id=new_id(), saga_type="order", saga_version=1, partition=1, progress=NOTHING, started_at=AT,
        step="book_shipment",
    )  # fmt: skip
    return TrackedSaga(row=row, definition=newest("order"))


def read_back(message: OwnDecision) -> Message:
    codec = Codec(LocalRegistry())
    return codec.decode(codec.encode(DECISIONS_TOPIC, message))


@pytest.mark.parametrize(
    ("timer", "detail", "step"),
    [
        (TimedOut(step="book_shipment"), "book_shipment to run: nothing came in time", "book_shipment"),
        (ReplyOverdue(round_="fence", attempt=2), "fence reply 2: nothing came in time", None),
        (
            ReplyOverdue(round_="book_shipment", attempt=7),
            "book_shipment reply 7: nothing came in time",
            "book_shipment",
        ),
    ],
)
def test_a_deadline_that_passed_comes_back_as_its_timer(
    saga: TrackedSaga, timer: TimedOut | ReplyOverdue, detail: str, step: str | None
) -> None:
    message = decisions.deadline_passed(saga, timer, deadline_at=AT, now=NOW)
    assert read_back(message) == message
    assert decisions.fact_of(message) == timer
    entry = decisions.entry_of(message, 1)
    assert entry is not None
    assert (entry.kind, entry.type, entry.step, entry.detail) == ("timer", type(timer).__name__, step, detail)
    assert (entry.occurred_at, entry.deadline_at) == (AT, AT)


@pytest.mark.parametrize(("is_accepted", "fact"), [(True, CANCELLED), (False, None)])
def test_only_a_cancellation_that_was_accepted_is_a_fact(saga: TrackedSaga, is_accepted: bool, fact: Fact) -> None:
    request_id = new_id()
    message = decisions.cancellation_decided(saga, CANCELLED, request_id, is_accepted=is_accepted, now=NOW)
    assert read_back(message) == message
    assert decisions.fact_of(message) == fact
    assert decisions.entry_of(message, 1) is None
    assert decisions.entry_id_of(message) == request_id


@pytest.mark.parametrize(
    ("kind", "fact", "type_"),
    [
        (ActKind.REDRIVE, REDRIVEN, "Redrive"),
        (ActKind.REDRIVE, None, "Redrive"),
        (ActKind.COMPENSATE, COMPENSATED, "Compensate"),
        (ActKind.ANNOTATE, None, "Annotate"),
        (ActKind.SETTLE, SETTLED, "Settle"),
    ],
)
def test_an_operators_act_comes_back_as_its_fact(saga: TrackedSaga, kind: ActKind, fact: Fact, type_: str) -> None:
    act = AppliedAct(
        kind=kind, plan_id=new_id(), actor="operator-1", reason="fixed", runs="RedriveStep ledger", fact=fact,
        redrives={"ledger": 2},
    )  # fmt: skip
    message = decisions.operator_acted(saga, act, now=NOW)
    assert read_back(message) == message
    assert decisions.fact_of(message) == fact
    entry = decisions.entry_of(message, 1)
    assert entry is not None
    assert (entry.type, entry.detail, entry.step) == (type_, "operator-1: fixed", "book_shipment")
    (logged,) = decisions.log_entries_of(message)
    assert (logged.act, logged.plan_id, logged.detail) == (kind.value, act.plan_id, "RedriveStep ledger")


@pytest.mark.parametrize("resolution", Resolution)
def test_a_resolution_comes_back_with_who_proposed_it_and_with_its_proposal(
    saga: TrackedSaga, resolution: Resolution
) -> None:
    kind = ActKind(f"RESOLVE_{resolution}")
    fact = Resolved(at=NOW, resolution=resolution, by="operator-2", proposed_by="operator-1", reason="seen")
    act = AppliedAct(
        kind=kind, plan_id=new_id(), actor="operator-2", proposed_by="operator-1", reason="seen", runs="FenceSaga",
        fact=fact, redrives={},
    )  # fmt: skip
    message = decisions.operator_acted(saga, act, now=NOW)
    assert read_back(message) == message
    assert decisions.fact_of(message) == fact
    logged = decisions.log_entries_of(message)
    assert [(each.act, each.actor) for each in logged] == [("PROPOSE", "operator-1"), (kind.value, "operator-2")]


def test_a_decision_that_the_tracker_did_not_make_is_none(saga: TrackedSaga) -> None:
    act = AppliedAct(kind=ActKind.ANNOTATE, plan_id=new_id(), actor="o", reason="r", runs=None, fact=None, redrives={})
    for made in (
        decisions.deadline_passed(saga, TimedOut(step="book_shipment"), deadline_at=AT, now=NOW),
        decisions.deadline_passed(saga, ReplyOverdue(round_="fence", attempt=2), deadline_at=AT, now=NOW),
        decisions.cancellation_decided(saga, CANCELLED, new_id(), is_accepted=True, now=NOW),
        decisions.operator_acted(saga, act, now=NOW),
    ):
        decisions.check_id(made)
        for foreign in (replace(made, message_id=new_id()), replace(made, saga_id=new_id())):
            with pytest.raises(InvalidDecision, match="did not make"):
                decisions.check_id(foreign)


def test_an_act_of_another_release_is_no_decision(saga: TrackedSaga) -> None:
    act = AppliedAct(
        kind=ActKind.ANNOTATE, plan_id=new_id(), actor="o", reason="r", runs=None, fact=None, redrives={}
    )  # fmt: skip
    message = decisions.operator_acted(saga, act, now=NOW).to_record() | {"act": "UNDO"}
    with pytest.raises(InvalidDecision, match="'UNDO'"):
        decisions.fact_of(OperatorActed.from_record(message))
