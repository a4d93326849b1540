"""Whole sagas over the real handlers and the real tracker, without Kafka: orders with points, manual postings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, text

import bench_providers.courier.handlers
import bench_providers.courier.tables
import bench_providers.gateway.handlers
import bench_providers.gateway.tables
import checkout.handlers
import inventory.handlers
import ledger.handlers
import loyalty.handlers
from chassis.postgres.transient import utc_now
from chassis.saga.handlers import Handlers
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from ledger.model.transfers import Entry
from ledger.store import manual_postings
from ledger.store.accounts import new_account, open_accounts
from ledger.store.manual_postings import Proposal
from messages.checkout import OrderSubmitted
from messages.ledger import ManualPostingApproved
from messages.saga import CancelSaga
from proof.databases import TRACKER
from proof.schemas import LocalRegistry
from stack import Stack
from support import together
from support.builders import a
from support.together import System, raw_of

HANDLERS = {
    "checkout": Handlers.of(checkout.handlers.HANDLERS),
    "payment": Handlers.of(bench_providers.gateway.handlers.HANDLERS),
    "inventory": Handlers.of(inventory.handlers.HANDLERS),
    "loyalty": Handlers.of(loyalty.handlers.HANDLERS),
    "shipping": Handlers.of(bench_providers.courier.handlers.HANDLERS),
    "ledger": Handlers.of(ledger.handlers.HANDLERS),
}
RECORDS = {
    "payment": bench_providers.gateway.tables.metadata,
    "shipping": bench_providers.courier.tables.metadata,
}
MEMBER = "sacco:fosa:m1:KES"
ENTRIES = """
    SELECT path, sum(amount_minor)::bigint FROM transfers JOIN transfer_entries ON transfer_id = transfers.id
    JOIN accounts ON accounts.id = account_id WHERE saga_id = :saga_id AND NOT is_hold GROUP BY path
"""
SAGA = "SELECT state, reason FROM sagas WHERE saga_id = :saga_id"
POSTING = "SELECT state, outcome FROM manual_postings WHERE posting_id = :saga_id"
CANCELS = "saga.commands"
BALANCE = """
    SELECT (sum(credits) - sum(debits))::bigint FROM balances JOIN accounts ON accounts.id = account_id
    WHERE path = 'sacco:fosa:m1:KES'
"""
HELD = "SELECT sum(held_debits + held_credits) FROM balances"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The services and the tracker, and what SQL says about them."""

    system: System
    connections: Mapping[str, Connection]

    def rows(self, service: str, query: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.connections[service].begin():
            return [tuple(row) for row in self.connections[service].execute(text(query), values)]

    def entries(self, saga_id: str) -> dict[str, int]:
        """Return what a saga has posted to each account, corrections included."""
        return dict(self.rows("ledger", ENTRIES, saga_id=saga_id))

    def approved(self, debit: str, credit: str, amount_minor: int) -> ManualPostingApproved:
        """Store a proposal that another person has approved, and return its event."""
        posting_id, now = new_id(), utc_now()
        proposal = Proposal(
            posting_id=posting_id, key=posting_id, effective_at=now, reason="A reason.", proposed_by="ann",
            proposed_at=now, entries=[Entry(debit, amount_minor, "KES"), Entry(credit, -amount_minor, "KES")],
        )  # fmt: skip
        with self.connections["ledger"].begin():
            tx = self.connections["ledger"]
            manual_postings.propose(proposal, tx)
            manual_postings.decide(posting_id, "APPROVED", tx, by="ben", reason="Seen.", at=now)
        sides = ((debit, amount_minor), (credit, -amount_minor))
        entries = [{"account": path, "amount_minor": amount, "currency": "KES"} for path, amount in sides]
        return a(
            ManualPostingApproved,
            saga_id=posting_id, saga_type="manual_posting", entries=entries, proposed_by="ann", approved_by="ben",
        )  # fmt: skip


@pytest.fixture(scope="module")
def running(infrastructure: Stack) -> Iterator[Running]:
    with together.databases(infrastructure, RECORDS) as (_, connections):
        stock = "INSERT INTO stock (sku, received, on_hand) VALUES ('tea', 1000, 1000)"
        points = "INSERT INTO accounts (customer_id, granted, balance) VALUES ('ann', 1000, 1000)"
        for service, statement in (("inventory", stock), ("loyalty", points)):
            with connections[service].begin():
                connections[service].execute(text(statement))
        with connections["ledger"].begin():
            open_accounts([new_account(MEMBER, at=datetime(2026, 1, 1, tzinfo=UTC))], connections["ledger"])
        yield Running(system=together.system(HANDLERS, connections, Codec(LocalRegistry())), connections=connections)


def order(points_to_burn: int, **changes: Any) -> OrderSubmitted:
    fields = {
        "customer_id": "ann",
        "currency": "USD",
        "lines": [{"sku": "tea", "quantity": 2, "unit_price_minor": 500}],
        "total_minor": 1_000,
        "payable_minor": 1_000 - points_to_burn,
        "points_to_burn": points_to_burn,
    }
    return a(OrderSubmitted, **fields | changes)


def start(running: Running, *events: OrderSubmitted | ManualPostingApproved) -> None:
    codec = running.system.codec
    running.system.run([raw_of(event, f"{event.OWNER}.events", codec) for event in events])


@pytest.mark.parametrize("points", [0, 30])
def test_an_orders_price_is_posted_by_card_and_points(running: Running, points: int) -> None:
    event = order(points)
    start(running, event)
    assert running.rows(TRACKER, SAGA, saga_id=event.saga_id) == [("CONFIRMED", None)]
    expected = {"shop:gateway_receivable:USD": 1_000 - points, "shop:sales:USD": -1_000}
    expected |= {"shop:points_liability:USD": points} if points else {}
    assert running.entries(event.saga_id) == expected


def test_a_manual_posting_is_held_posted_and_confirmed(running: Running) -> None:
    event = running.approved("sacco:bank:KES", MEMBER, 700)
    start(running, event)
    assert running.rows(TRACKER, SAGA, saga_id=event.saga_id) == [("CONFIRMED", None)]
    assert running.rows("ledger", POSTING, saga_id=event.saga_id) == [("POSTED", None)]
    assert running.entries(event.saga_id) == {"sacco:bank:KES": 700, MEMBER: -700}
    assert running.rows("ledger", HELD) == [(0,)]


def test_a_manual_posting_that_is_rejected_ends_with_its_reason(running: Running) -> None:
    event = running.approved(MEMBER, "sacco:bank:KES", 10**9)
    start(running, event)
    ((state, reason),) = running.rows(TRACKER, SAGA, saga_id=event.saga_id)
    assert (state, reason) == ("CANCELLED_COMPENSATED", "insufficient_funds")
    assert running.rows("ledger", POSTING, saga_id=event.saga_id) == [("FAILED", "insufficient_funds")]
    assert running.entries(event.saga_id) == {}


def test_a_manual_posting_that_staff_cancel_before_it_is_held_holds_nothing(running: Running) -> None:
    """The cancellation is read before the approval, by the tracker; the ledger has neither yet."""
    event = running.approved("sacco:bank:KES", MEMBER, 5)
    cancel = a(
        CancelSaga, saga_id=event.saga_id, saga_type="manual_posting", occurred_at=datetime.now(UTC), reason="a mistake"
    )
    codec = running.system.codec
    running.system.run([raw_of(event, "ledger.events", codec), raw_of(cancel, "saga.commands", codec)])
    ((state, _),) = running.rows(TRACKER, SAGA, saga_id=event.saga_id)
    assert state == "CANCELLED_COMPENSATED"
    assert [state for state, _ in running.rows("ledger", POSTING, saga_id=event.saga_id)] == ["FAILED"]
    assert set(running.entries(event.saga_id).values()) <= {0}
    assert running.rows("ledger", HELD) == [(0,)]


def test_many_sagas_of_both_kinds_at_once_all_end(running: Running) -> None:
    events = [*(order(1) for _ in range(20)), *(running.approved("sacco:bank:KES", MEMBER, 1) for _ in range(20))]
    start(running, *events)
    ids = [event.saga_id for event in events]
    ended = "SELECT saga_type, state, count(*) FROM sagas WHERE saga_id = ANY(:ids) GROUP BY saga_type, state"
    assert sorted(running.rows(TRACKER, ended, ids=ids)) == [
        ("manual_posting", "CONFIRMED", 20),
        ("order", "CONFIRMED", 20),
    ]
    assert running.rows("ledger", "SELECT sum(amount_minor) FROM transfer_entries") == [(0,)]


SCHEDULES = 12


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_whatever_overtakes_or_comes_again_every_saga_ends_and_its_posting_with_it(running: Running, seed: int) -> None:
    """Postings that fit, that are rejected, and that staff cancel at any moment."""
    chance, codec = Random(seed), running.system.codec
    events = [running.approved("sacco:bank:KES", MEMBER, 2) for _ in range(3)]
    events += [running.approved(MEMBER, "sacco:bank:KES", 10**9), running.approved("sacco:bank:KES", MEMBER, 3)]
    raws = [raw_of(event, "ledger.events", codec) for event in events]
    cancelled = chance.sample(events, 2)
    raws += [
        raw_of(a(CancelSaga, saga_id=each.saga_id, saga_type="manual_posting", reason="a mistake"), CANCELS, codec)
        for each in cancelled
    ]
    before = running.rows("ledger", BALANCE)
    running.system.run_in_any_order(raws, chance)

    ids = [event.saga_id for event in events]
    states = dict(running.rows(TRACKER, "SELECT saga_id, state FROM sagas WHERE saga_id = ANY(:ids)", ids=ids))
    postings = dict(
        running.rows("ledger", "SELECT posting_id, state FROM manual_postings WHERE posting_id = ANY(:ids)", ids=ids)
    )
    expected = {"CONFIRMED": "POSTED", "CANCELLED_COMPENSATED": "FAILED"}
    assert postings == {saga_id: expected[states[saga_id]] for saga_id in ids}
    assert states[events[3].saga_id] == "CANCELLED_COMPENSATED"
    uncancelled = [event for event in (*events[:3], events[4]) if event not in cancelled]
    assert {states[event.saga_id] for event in uncancelled} <= {"CONFIRMED"}
    assert running.rows("ledger", HELD) == [(0,)]
    posted = sum(event.entries[0].amount_minor for event in events if states[event.saga_id] == "CONFIRMED")
    ((before_minor,),), ((after_minor,),) = before, running.rows("ledger", BALANCE)
    assert after_minor - before_minor == posted
