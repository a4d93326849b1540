"""The parcel of a return in shipping's own handlers, on real PostgreSQL: days pass, and evidence alone settles it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from baraza.audit import returns
from chassis.http import problem
from chassis.http.downstream import Unavailable
from chassis.postgres import migrations
from chassis.process import callbacks
from chassis.process.service import Dependencies
from chassis.saga import evidence
from chassis.saga.answers import Accepted, NotFound, Proven, QueryAnswer, SendAnswer
from chassis.saga.attempts import Outcome
from chassis.saga.handlers import Handlers
from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.provider import AnsweredProvider
from chassis.testing.service import ServiceUnderTest, types
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from messages.checkout import ReturnApproved
from messages.contract import Message
from messages.saga import FenceSaga, SagaFenced, StepAwaited, StepContradicted
from messages.shipping import ParcelArrived, ParcelNotCollected, ReturnedLine
from proof.schemas import LocalRegistry
from shipping import api
from shipping.callbacks import SIGNATURE, STAMP, CourierCallbacks
from shipping.collecting import STEP, collecting
from shipping.collection_bodies import answer_of
from shipping.courier import Pickup
from shipping.parcels import ParcelEnd, Piece, Report
from simulators import webhooks
from stack import Stack
from support.builders import a
from support.inboxes import inbox_of
from support.issuer import token, verifying
from support.postgres import scratch_database

DAY_S = 86_400
SECRET = b"a-secret-of-both"
CALLBACKS = CourierCallbacks(secrets=lambda: (SECRET,))
LINES = [{"sku": "cup", "quantity": 2, "unit_price_minor": 500}, {"sku": "tea", "quantity": 1, "unit_price_minor": 200}]
ALL = [{"sku": "cup", "quantity": 2, "condition": "good"}, {"sku": "tea", "quantity": 1, "condition": "good"}]
APPROVED: dict[str, object] = {"lines": LINES, "refund_minor": 900, "points_minor": 300, "points": 30}


@dataclass(frozen=True)
class Courier:
    """A courier that answers what a test has laid out, and keeps what it was sent."""

    provider: AnsweredProvider = field(default_factory=AnsweredProvider)
    pickups: list[Pickup] = field(default_factory=list)

    def collect(self, request: Pickup, key: str) -> SendAnswer:
        self.pickups.append(request)
        answer: SendAnswer = self.provider.send(request, key)
        return answer

    def find_collection(self, key: str, provider_id: str | None) -> QueryAnswer:
        answer: QueryAnswer = self.provider.query(key, provider_id)
        return answer

    def call_off(self, key: str, provider_id: str | None) -> Proven:
        answer: Proven = self.provider.cancel(key, provider_id)
        return answer


@dataclass(kw_only=True)
class Shipping(ServiceUnderTest):
    """Shipping's step, with a courier that a test answers."""

    name: str = "shipping"
    codec: Codec = field(default_factory=lambda: Codec(LocalRegistry()))
    handlers: Handlers = field(init=False)
    courier: Courier = field(default_factory=Courier)

    def __post_init__(self) -> None:
        self.handlers = Handlers.of([collecting(self.courier)])

    @property
    def key(self) -> str:
        return f"{self.saga_id}:{STEP}"

    @property
    def state(self) -> str:
        return self.state_of(STEP)

    def approve(self) -> list[Message]:
        return self.deliver(a(ReturnApproved, saga_id=self.saga_id, saga_type="return_order", **APPROVED))

    def fence(self) -> list[Message]:
        return self.deliver(a(FenceSaga, saga_id=self.saga_id, saga_type="return_order", steps=[STEP]))

    def answered(self, *answers: object) -> list[Message]:
        """Make the planned call, which the courier answers so."""
        self.courier.provider.answers = list(answers)
        return self.call()

    def accepted(self) -> None:
        """Approve a return whose parcel the courier accepts."""
        self.approve()
        assert self.answered(Accepted(provider_id=f"courier:{self.number}")) == []

    @property
    def number(self) -> str:
        return f"COL_{self.saga_id}"

    def shown(self, status: str, pieces: object = ()) -> bytes:
        shown = {
            "event": f"collection.{status}",
            "collection_id": self.number,
            "status": status,
            "reference": self.saga_id,
            "idempotency_key": self.key,
            "pieces": list(pieces),  # type: ignore[call-overload]
        }
        return json.dumps(shown).encode()

    def webhook(self, status: str, pieces: object = ()) -> list[Message]:
        """Store a webhook as it comes, and let the owner of the partition decide about it."""
        body = self.shown(status, pieces)
        callback = callbacks.Callback(adapter=CALLBACKS, headers=[], body=body, at=self.now, new_id=new_id)
        callbacks.take(self.engine, [callback])
        return self.decide()

    @property
    def collection(self) -> tuple[Any, ...] | None:
        """What is recorded: its state, the courier's number, what arrived, what is paid."""
        with self.engine.connect() as connection:
            query = text("SELECT state, collection_id, received, refund_minor FROM collections WHERE saga_id = :id")
            row = connection.execute(query, {"id": self.saga_id}).one_or_none()
        return None if row is None else tuple(row)

    @property
    def surplus(self) -> object:
        with self.engine.connect() as connection:
            query = text("SELECT surplus FROM collections WHERE saga_id = :id")
            return connection.execute(query, {"id": self.saga_id}).scalar_one()


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        migrations.upgrade("shipping", engine)
        yield engine


@pytest.fixture
def shipping(engine: Engine) -> Shipping:
    return Shipping(engine=engine)


def states(messages: list[Message]) -> list[str]:
    return [each.steps[0].state for each in messages if isinstance(each, SagaFenced)]


def test_a_parcel_is_accepted_now_and_its_webhook_settles_the_step_days_later(shipping: Shipping) -> None:
    (awaited,) = shipping.approve()
    assert isinstance(awaited, StepAwaited)
    assert (awaited.step, awaited.key) == (STEP, shipping.key)
    assert [(call.act, call.after) for call in shipping.calls] == [(AwaitedAct.SEND, awaited.message_id)]
    (accepted,) = shipping.answered(answer_of({"status": "accepted", "collection_id": shipping.number}))
    assert isinstance(accepted, StepAwaited)
    assert accepted.reference == shipping.number, "people find the return by it while the parcel is under way"
    (pickup,) = shipping.courier.pickups
    assert (pickup.reference, [line.sku for line in pickup.lines]) == (shipping.saga_id, ["cup", "tea"])
    assert (shipping.state, shipping.collection) == ("SENT", None), "an acceptance is no outcome"
    shipping.now = shipping.now.replace(day=4)
    (arrived,) = shipping.webhook("arrived", ALL)
    assert isinstance(arrived, ParcelArrived)
    assert (arrived.collection_id, arrived.is_lost) == (shipping.number, False)
    assert (arrived.refund_minor, arrived.points_minor, arrived.points) == (900, 300, 30)
    assert arrived.received == (
        ReturnedLine(sku="cup", good=2, damaged=0),
        ReturnedLine(sku="tea", good=1, damaged=0),
    )
    received = [{"sku": "cup", "good": 2, "damaged": 0}, {"sku": "tea", "good": 1, "damaged": 0}]
    assert shipping.collection == ("ARRIVED", shipping.number, received, 900)
    assert shipping.webhook("arrived", ALL) == [], "a doubled webhook changes nothing"
    assert (shipping.state, shipping.wait(30 * DAY_S), shipping.calls) == ("DONE", [], [])


def test_where_the_webhook_is_lost_a_query_settles_it(shipping: Shipping) -> None:
    shipping.accepted()
    shipping.wait(60)
    assert [call.act for call in shipping.calls] == [AwaitedAct.QUERY]
    assert shipping.answered(Accepted(provider_id=f"courier:{shipping.number}")) == []
    assert shipping.state == "SENT", "a parcel under way is no outcome"
    shipping.wait(3_600)
    report = Report(end=ParcelEnd.LOST).detail
    proof = Proven(outcome=Outcome.SUCCEEDED, reference=shipping.number, detail=report)
    (arrived,) = shipping.answered(proof)
    assert isinstance(arrived, ParcelArrived)
    assert shipping.courier.provider.queried == [(shipping.key, f"courier:{shipping.number}")] * 2


def test_a_request_whose_answer_was_lost_is_queried_and_sent_again_under_the_same_key(shipping: Shipping) -> None:
    shipping.approve()
    shipping.answered(Unavailable("the answer was lost"))
    shipping.acknowledge()
    shipping.wait(10)
    assert shipping.answered(NotFound()) == []
    shipping.wait(60)
    shipping.answered(Accepted(provider_id=f"courier:{shipping.number}"))
    assert (shipping.state, shipping.courier.provider.sent) == ("SENT", [shipping.key] * 2)
    assert shipping.courier.pickups[0] == shipping.courier.pickups[1]


def test_a_webhook_before_the_answer_is_matched_by_our_key(shipping: Shipping) -> None:
    shipping.approve()
    (arrived,) = shipping.webhook("arrived", ALL)
    assert types([arrived]) == ["ParcelArrived"]
    assert shipping.answered(Accepted(provider_id=f"courier:{shipping.number}")) == []
    assert shipping.state == "DONE"


def test_a_lost_parcel_is_paid_as_a_whole(shipping: Shipping) -> None:
    shipping.accepted()
    (arrived,) = shipping.webhook("lost")
    assert isinstance(arrived, ParcelArrived)
    assert (arrived.is_lost, arrived.received, arrived.refund_minor) == (True, (), 900)
    assert shipping.collection == ("LOST", shipping.number, [], 900)


def test_of_fewer_pieces_those_that_arrived_are_paid(shipping: Shipping) -> None:
    shipping.accepted()
    (arrived,) = shipping.webhook("arrived", ALL[:1])
    assert isinstance(arrived, ParcelArrived)
    assert (arrived.refund_minor, arrived.points_minor, arrived.points) == (750, 250, 25)
    assert shipping.collection == ("ARRIVED", shipping.number, [{"sku": "cup", "good": 2, "damaged": 0}], 750)


def test_damaged_pieces_are_paid_and_reported_as_damaged(shipping: Shipping) -> None:
    shipping.accepted()
    (arrived,) = shipping.webhook("arrived", [{**each, "condition": "damaged"} for each in ALL])
    assert isinstance(arrived, ParcelArrived)
    assert arrived.refund_minor == 900
    assert [(each.good, each.damaged) for each in arrived.received] == [(0, 2), (0, 1)]


@pytest.mark.parametrize(
    ("status", "reason"), [("not_collected", "not_collected"), ("arrived", "nothing_arrived"), ("called_off",) * 2]
)
def test_where_nothing_arrives_the_step_is_rejected(shipping: Shipping, status: str, reason: str) -> None:
    shipping.accepted()
    (rejected,) = shipping.webhook(status)
    assert isinstance(rejected, ParcelNotCollected)
    assert rejected.reason == reason
    assert (shipping.state, shipping.collection) == ("REJECTED", ("NOT_COLLECTED", shipping.number, [], 0))


def test_a_parcel_of_other_pieces_alone_rejects_the_step_and_they_are_kept(shipping: Shipping) -> None:
    shipping.accepted()
    hats = [{"sku": "hat", "quantity": 2, "condition": "good"}]
    with capture_logs() as logged:
        (rejected,) = shipping.webhook("arrived", hats)
    assert isinstance(rejected, ParcelNotCollected)
    assert rejected.reason == "nothing_of_it_arrived"
    assert rejected.detail == "None of the announced pieces arrived; the parcel had 2 of hat."
    assert (shipping.state, shipping.collection) == ("REJECTED", ("NOT_COLLECTED", shipping.number, [], 0))
    assert shipping.surplus == [{"sku": "hat", "good": 2, "damaged": 0}]
    assert [(each["log_level"], each["saga_id"], each["pieces"]) for each in logged if "surplus" in each["event"]] == [
        ("warning", shipping.saga_id, 2)
    ]
    assert shipping.webhook("arrived", hats) == [], "a doubled webhook changes nothing"
    assert types(shipping.webhook("arrived", ALL)) == ["StepContradicted"]


def test_a_query_that_finds_other_pieces_alone_rejects_the_step(shipping: Shipping) -> None:
    shipping.accepted()
    shipping.wait(60)
    report = Report(end=ParcelEnd.ARRIVED, pieces=(Piece(sku="hat", quantity=1),)).detail
    proof = Proven(outcome=Outcome.SUCCEEDED, reference=shipping.number, detail=report)
    assert types(shipping.answered(proof)) == ["ParcelNotCollected"]
    assert shipping.state == "REJECTED"


def test_pieces_beside_those_announced_are_kept_and_not_paid(shipping: Shipping) -> None:
    shipping.accepted()
    (arrived,) = shipping.webhook("arrived", [*ALL, {"sku": "tea", "quantity": 4, "condition": "damaged"}])
    assert isinstance(arrived, ParcelArrived)
    assert (arrived.refund_minor, arrived.points_minor, arrived.points) == (900, 300, 30)
    assert shipping.surplus == [{"sku": "tea", "good": 0, "damaged": 4}]


def test_an_address_that_is_refused_rejects_the_step_at_once(shipping: Shipping) -> None:
    shipping.approve()
    detail = Report(end=ParcelEnd.NOT_COLLECTABLE).detail
    (rejected,) = shipping.answered(Proven(outcome=Outcome.REFUSED, detail=detail))
    assert isinstance(rejected, ParcelNotCollected)
    assert rejected.reason == "not_collectable"
    assert shipping.collection == ("NOT_COLLECTED", None, [], 0)


def test_before_it_is_collected_a_fence_calls_it_off(shipping: Shipping) -> None:
    shipping.accepted()
    shipping.acknowledge()
    assert states(shipping.fence()) == ["IN_DOUBT"]
    assert [call.act for call in shipping.calls] == [AwaitedAct.CANCEL]
    detail = Report(end=ParcelEnd.CALLED_OFF).detail
    shipping.answered(Proven(outcome=Outcome.VOIDED, reference=shipping.number, detail=detail))
    assert states(shipping.wait(0)) == ["FENCED"]
    assert (shipping.state, shipping.collection) == ("FENCED closing", None)
    assert shipping.courier.provider.cancelled == [shipping.key]
    assert shipping.webhook("called_off") == []


def test_one_whose_answer_was_lost_is_called_off_by_its_key(shipping: Shipping) -> None:
    shipping.approve()
    shipping.answered(Unavailable("the answer was lost"))
    shipping.acknowledge()
    assert states(shipping.fence()) == []
    shipping.wait(10)
    assert [(call.act, call.provider_id) for call in shipping.calls] == [(AwaitedAct.CANCEL, None)]
    shipping.answered(Proven(outcome=Outcome.VOIDED, detail=Report(end=ParcelEnd.CALLED_OFF).detail))
    assert states(shipping.wait(0)) == ["FENCED"]
    assert states(shipping.published) == ["IN_DOUBT", "FENCED"]


def test_once_it_is_collected_the_cancel_is_refused_and_the_return_goes_forward(shipping: Shipping) -> None:
    shipping.accepted()
    shipping.acknowledge()
    assert states(shipping.fence()) == ["IN_DOUBT"]
    assert shipping.answered(Proven(outcome=Outcome.CANCEL_REFUSED)) == []
    assert shipping.state == "SENT closing", "in doubt until it arrives"
    shipping.lose()
    settled = shipping.webhook("arrived", ALL)
    assert types(settled) == ["ParcelArrived", "SagaFenced"]
    assert (states(settled), shipping.state) == (["DONE"], "DONE closing")
    assert shipping.collection is not None


def test_while_a_cancel_is_out_only_its_own_outcome_settles(shipping: Shipping) -> None:
    shipping.accepted()
    shipping.acknowledge()
    shipping.fence()
    assert shipping.webhook("arrived", ALL) == []
    assert shipping.state == "SENT closing"
    shipping.answered(Proven(outcome=Outcome.CANCEL_REFUSED))
    detail = Report(end=ParcelEnd.LOST).detail
    settled = shipping.answered(Proven(outcome=Outcome.SUCCEEDED, reference=shipping.number, detail=detail))
    assert types(settled) == ["ParcelArrived"]


def test_a_courier_that_reports_a_failure_and_then_delivers_contradicts_itself_and_nothing_turns_round(
    shipping: Shipping,
) -> None:
    shipping.accepted()
    assert types(shipping.webhook("not_collected")) == ["ParcelNotCollected"]
    (contradicted,) = shipping.webhook("arrived", ALL)
    assert isinstance(contradicted, StepContradicted)
    assert (contradicted.step, contradicted.attempt) == (STEP, 1)
    assert not contradicted.undone_by_service
    assert (shipping.state, shipping.collection) == ("REJECTED", ("NOT_COLLECTED", shipping.number, [], 0))
    assert shipping.webhook("arrived", ALL) == [], "it is published once"


@pytest.mark.parametrize(
    ("first", "second"),
    [(("lost", ()), ("arrived", ALL)), (("arrived", ALL), ("lost", ())), (("arrived", ALL[:1]), ("arrived", ALL))],
)
def test_a_courier_that_reports_another_end_than_the_one_that_was_paid_contradicts_itself(
    shipping: Shipping, first: tuple[str, object], second: tuple[str, object]
) -> None:
    shipping.accepted()
    assert types(shipping.webhook(*first)) == ["ParcelArrived"]
    recorded = shipping.collection
    assert shipping.webhook(*first) == []
    (contradicted,) = shipping.webhook(*second)
    assert isinstance(contradicted, StepContradicted)
    assert (contradicted.recorded, contradicted.proven) == ("SUCCEEDED", "SUCCEEDED")
    assert contradicted.reference == shipping.number
    assert (shipping.state, shipping.collection) == ("DONE", recorded)
    assert shipping.webhook(*second) == [], "it is published once"


def test_the_same_pieces_in_another_order_are_the_same_end(shipping: Shipping) -> None:
    shipping.accepted()
    one_by_one = [*ALL[1:], *({**ALL[0], "quantity": 1} for _ in range(2))]
    assert types(shipping.webhook("arrived", ALL)) == ["ParcelArrived"]
    assert shipping.webhook("arrived", one_by_one) == []


def test_a_webhook_that_cannot_be_read_is_kept_and_settles_nothing(shipping: Shipping) -> None:
    shipping.accepted()
    assert shipping.webhook("arrived", [{"sku": "cup"}]) == []
    assert shipping.state == "SENT"
    with shipping.engine.connect() as connection:
        query = text("SELECT count(*) FROM evidence WHERE outcome IS NULL AND body = :body")
        body = shipping.shown("arrived", [{"sku": "cup"}])
        assert connection.execute(query, {"body": body}).scalar_one() == 1


@pytest.mark.anyio
async def test_a_signed_webhook_is_stored_before_it_is_answered_and_another_is_refused(shipping: Shipping) -> None:
    shipping.accepted()
    app = FastAPI()
    problem.install(app)
    body, stamp = shipping.shown("arrived", ALL), int(shipping.now.timestamp())
    headers = {STAMP: str(stamp), SIGNATURE: webhooks.sign(SECRET, body, stamp)}
    with inbox_of(shipping.engine) as inbox:
        app.include_router(callbacks.router(CALLBACKS, inbox, clock=lambda: shipping.now, new_id=new_id))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shipping") as client:
            refused = await client.post("/v1/callbacks/courier", content=body, headers={**headers, STAMP: "1"})
            taken = await client.post("/v1/callbacks/courier", content=body, headers=headers)
    assert (refused.status_code, taken.status_code) == (401, 204)
    (waiting,) = shipping.waiting()
    assert (waiting.source, waiting.reference) == (evidence.Source.CALLBACK, shipping.number)
    assert types(shipping.decide()) == ["ParcelArrived"]


@contextmanager
def reading(shipping: Shipping) -> Iterator[Callable[..., Awaitable[httpx.Response]]]:
    """Return what reads the saga's collection over HTTP, with a role, or settles its surplus with a reason."""
    unused: Any = None
    with verifying() as verifier:
        app = api.application(Dependencies(settings=unused, engine=shipping.engine, codec=unused, verifier=verifier))

        async def read(role: str = "support", *, reason: str | None = None) -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shipping") as client:
                headers = {"Authorization": f"Bearer {token('support-1', role)}"}
                path = f"/v1/collections/{shipping.saga_id}"
                if reason is None:
                    return await client.get(path, headers=headers)
                return await client.post(f"{path}/settle", json={"reason": reason}, headers=headers)

        yield read


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("outcome", "shown"),
    [(Outcome.VOIDED, "CALLED_OFF"), (Outcome.CANCEL_REFUSED, "AWAITED"), (Outcome.REFUSED, "NOT_COLLECTED")],
)
@pytest.mark.parametrize("is_restored", [False, True])
async def test_staff_read_that_a_collection_has_ended_whatever_is_known_of_its_attempt(
    shipping: Shipping, outcome: Outcome, shown: str, is_restored: bool
) -> None:
    shipping.accepted()
    shipping.acknowledge()
    shipping.fence()
    shipping.answered(Proven(outcome=outcome))
    if is_restored:  # a restored database may know the step's end alone
        with shipping.engine.begin() as tx:
            known = {"id": shipping.saga_id}
            tx.execute(text("UPDATE attempts SET state = 'FAILED' WHERE saga_id = :id AND state = 'VOIDED'"), known)
            tx.execute(text("DELETE FROM collections WHERE saga_id = :id"), known)
    with reading(shipping) as read:
        assert (await read()).json()["state"] == shown


@pytest.mark.anyio
async def test_staff_read_what_became_of_a_parcel(shipping: Shipping) -> None:
    with reading(shipping) as read:
        assert (await read()).status_code == 404
        shipping.accepted()
        awaited = (await read()).json()
        assert (awaited["state"], awaited["collection_id"], awaited["received"]) == ("AWAITED", shipping.number, None)
        assert awaited["next_query_at"] is not None
        shipping.webhook("arrived", [ALL[0], {"sku": "hat", "quantity": 1, "condition": "damaged"}])
        arrived = (await read()).json()
        assert (arrived["state"], arrived["refund_minor"], arrived["next_query_at"]) == ("ARRIVED", 750, None)
        assert arrived["received"] == [{"sku": "cup", "good": 2, "damaged": 0}]
        assert arrived["surplus"] == [{"sku": "hat", "good": 0, "damaged": 1}]
        assert (await read("customer")).status_code == 403


@pytest.mark.anyio
async def test_an_operator_settles_what_a_parcel_had_besides_once_and_with_a_reason(shipping: Shipping) -> None:
    with reading(shipping) as read:
        assert (await read("operator", reason="Nothing is known.")).status_code == 404
        shipping.accepted()
        assert (await read("operator", reason="It is not here.")).status_code == 409
        shipping.webhook("arrived", [*ALL, {"sku": "hat", "quantity": 1, "condition": "good"}])
        assert (await read("support", reason="Sent back.")).status_code == 403
        assert (await read("operator", reason=" ")).status_code == 422
        settled = (await read("operator", reason="The hat was sent back.")).json()
        assert (settled["state"], settled["surplus"]) == ("ARRIVED", [{"sku": "hat", "good": 1, "damaged": 0}])
        again = await read("operator", reason="Once more.")
        assert (again.status_code, "settled by support-1" in again.json()["detail"]) == (409, True)
        shown = (await read()).json()
        assert (shown["settled_by"], shown["settled_reason"]) == ("support-1", "The hat was sent back.")
    with shipping.engine.connect() as tx:
        found = tx.exec_driver_sql(returns.SETTLED_SURPLUS).all()
    assert [tuple(row) for row in found if row.saga_id == shipping.saga_id] == [
        (shipping.saga_id, "hat", 1, 0, "support-1", "The hat was sent back.")
    ], "the audit reads it"
