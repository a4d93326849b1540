"""What the ledger does by itself, on real PostgreSQL: seals, voids of expired holds, closed days."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from chassis.postgres.transient import utc_now
from chassis.process.background import Background, Task, run_once
from chassis.process.service import Dependencies
from chassis.wire.codec import Codec
from ledger import api
from ledger.closing import next_day
from ledger.model.charts import CHARTS
from ledger.model.days import day_of, end_of
from ledger.outgoing import DAYS
from ledger.store.booking import book
from ledger.store.expiry import ExpiredHolds
from ledger.tasks import CLOSE_AFTER, LOCKS, close_next_day, seal
from messages.ledger import DayClosed
from proof.schemas import LocalRegistry
from stack import Stack
from support.issuer import token, verifying
from support.ledgers import CURRENCY, FUNDING, LedgerUnderTest, hold, kinds, member, post, scratch_ledger
from support.registries import Shelf

WORKING = f"sacco:working:600000:{CURRENCY}"


@pytest.fixture
def own_ledger(infrastructure: Stack) -> Iterator[LedgerUnderTest]:
    """A ledger of its own: a day is closed for all accounts of a chart."""
    with scratch_ledger(infrastructure) as ledger:
        ledger.fund(member("ann"), 1_000)
        yield ledger


def first_days_end(ledger: LedgerUnderTest) -> datetime:
    """Return when the day ends on which the first transfer was booked."""
    ((booked_at,),) = ledger.rows("SELECT min(booked_at) FROM transfers")
    zone = CHARTS["sacco"].zone
    return end_of(day_of(booked_at, zone), zone)


def task(run: object, name: str = "it") -> Task:
    return Task(name=name, run=run, every_s=60.0, lock=LOCKS)  # type: ignore[arg-type]


def test_every_batch_is_sealed_and_then_there_is_nothing_to_do(own_ledger: LedgerUnderTest) -> None:
    sealing = task(lambda tx: seal(tx, now=utc_now()))
    assert run_once(own_ledger.engine, sealing)
    assert own_ledger.rows("SELECT count(*) FROM batches WHERE position IS NULL") == [(0,)]
    assert not run_once(own_ledger.engine, sealing)


def test_a_task_is_left_to_the_replica_that_is_at_it(own_ledger: LedgerUnderTest) -> None:
    calls = []
    inner = task(lambda _: calls.append("inner") or True)
    outer = task(lambda _: run_once(own_ledger.engine, inner))
    assert not run_once(own_ledger.engine, outer)
    assert calls == []
    assert run_once(own_ledger.engine, inner)


def test_a_task_that_fails_comes_again_and_holds_up_no_other(own_ledger: LedgerUnderTest) -> None:
    times, calls = [0.0], []

    def failing(_: object) -> bool:
        calls.append("failing")
        raise RuntimeError("odd")

    working = task(lambda _: calls.append("working") and False, "other")
    background = Background(own_ledger.engine, (task(failing), working), clock=lambda: times[0])
    assert background.run_due() == 60.0
    times[0] = 60.0
    background.run_due()
    assert calls == ["failing", "working"] * 2


def test_only_a_hold_with_an_end_that_has_passed_is_voided(own_ledger: LedgerUnderTest) -> None:
    now = utc_now()
    path = member("ann")
    ended, later = (hold(path, WORKING, 100, expires_at=now + timedelta(minutes=m)) for m in (1, 60))
    posted = hold(path, WORKING, 100, expires_at=now + timedelta(minutes=1))
    endless = hold(path, WORKING, 100)
    own_ledger.book(ended, later, posted, endless, post(posted))
    expired = ExpiredHolds()

    def void_at(minutes: int) -> bool:
        return run_once(own_ledger.engine, task(lambda tx: expired.void(tx, now=now + timedelta(minutes=minutes))))

    assert not void_at(0)
    assert own_ledger.totals()[path] == (100, 1_000, 300, 0)
    void_at(2)
    void_at(2)
    assert own_ledger.totals()[path] == (100, 1_000, 200, 0)
    assert own_ledger.rows("SELECT count(*) FROM transfers WHERE kind = 'VOID'") == [(1,)]
    void_at(61)
    assert own_ledger.totals()[path] == (100, 1_000, 100, 0)
    assert kinds(own_ledger.book(post(ended))) == ["HOLD_RESOLVED"]
    own_ledger.check()


def test_a_hold_that_was_under_way_when_it_ended_is_voided_as_well(own_ledger: LedgerUnderTest) -> None:
    now = utc_now()
    expired = ExpiredHolds()
    own_ledger.fund(member("ben"), 1_000)
    for name, other in (("ann", WORKING), ("ben", FUNDING)):  # the second is committed after a search beyond its end
        with own_ledger.engine.begin() as tx:
            under_way = hold(member(name), other, 10, expires_at=now + timedelta(minutes=5))
            assert kinds(book([under_way], tx, now=now)) == ["BOOKED"]
        run_once(own_ledger.engine, task(lambda tx: expired.void(tx, now=now + timedelta(minutes=10))))
    assert [own_ledger.totals()[member(name)] for name in ("ann", "ben")] == [(0, 1_000, 0, 0)] * 2


def test_a_day_is_closed_an_hour_after_its_end_and_its_root_is_published(own_ledger: LedgerUnderTest) -> None:
    shelf = Shelf()
    codec = Codec(shelf)
    ends_at = first_days_end(own_ledger)
    closes_at = ends_at + CLOSE_AFTER

    def close_at(after: timedelta) -> bool:
        return run_once(own_ledger.engine, task(lambda tx: close_next_day(tx, codec, now=closes_at + after)))

    assert not close_at(timedelta(seconds=-1))
    assert close_at(timedelta())
    assert not close_at(timedelta())
    ((topic, key, partition, payload),) = own_ledger.rows(
        "SELECT aggregatetype, aggregateid, partition, payload FROM outbox"
    )
    published = codec.decode(bytes(payload))
    ((root, heads),) = own_ledger.rows("SELECT root, heads FROM day_closes WHERE chart = 'sacco'")
    assert isinstance(published, DayClosed)
    assert (topic, key, partition) == (DAYS, "sacco", 0)
    assert (published.root, published.heads, published.closed_until) == (bytes(root).hex(), heads, ends_at)


def test_days_that_were_missed_are_closed_one_after_the_other(own_ledger: LedgerUnderTest) -> None:
    codec = Codec(Shelf())
    now = first_days_end(own_ledger) + CLOSE_AFTER + timedelta(days=2)
    closing = task(lambda tx: close_next_day(tx, codec, now=now))
    assert [run_once(own_ledger.engine, closing) for _ in range(4)] == [True, True, True, False]


@pytest.fixture
def closing(own_ledger: LedgerUnderTest) -> Iterator[Callable[..., Any]]:
    """Send the request that closes a day."""
    with verifying() as verifier:
        unused = cast(Any, None)
        codec = Codec(LocalRegistry())
        dependencies = Dependencies(settings=unused, engine=own_ledger.engine, codec=codec, verifier=verifier)
        client = TestClient(api.application(dependencies))

        def close(day: object, *, role: str = "bookkeeper", chart: str = "sacco") -> Any:
            headers = {"Authorization": f"Bearer {token('ann', role)}"}
            sent = day.isoformat() if isinstance(day, date) else day
            return client.post("/v1/day-closes", json={"chart": chart, "day": sent}, headers=headers)

        yield close


def test_a_day_that_is_over_is_closed_by_hand_once(own_ledger: LedgerUnderTest, closing: Callable[..., Any]) -> None:
    with own_ledger.engine.begin() as tx:
        tx.execute(text("SET LOCAL session_replication_role = replica"))
        tx.execute(text("UPDATE accounts SET opened_at = now() - interval '3 days' WHERE chart = 'sacco'"))
        first = next_day("sacco", tx)
    assert first is not None
    assert closing(first, role="finance").status_code == 403
    for other in (first + timedelta(days=1), first - timedelta(days=1), first - timedelta(days=3_650)):
        refused = closing(other)
        assert (refused.status_code, f"to close is {first}" in refused.json()["detail"]) == (409, True)
    closed = closing(first)
    assert closed.status_code == 201
    assert f"to close is {first + timedelta(days=1)}" in closing(first).json()["detail"]
    assert own_ledger.rows("SELECT encode(root, 'hex') FROM day_closes") == [(closed.json()["root"],)]
    assert own_ledger.rows("SELECT aggregatetype, aggregateid FROM outbox") == [(DAYS, "sacco")]
    assert closing(first + timedelta(days=1)).status_code == 201


def test_a_day_that_is_not_over_or_of_no_account_is_not_closed(closing: Callable[..., Any]) -> None:
    today = day_of(utc_now(), CHARTS["sacco"].zone)
    assert "not over" in closing(today).json()["detail"]
    assert "no account" in closing(today, chart="merchants").json()["detail"]


@pytest.mark.parametrize("day", [1_764_374_400, "1764374400", "2026-03-01T00:00:00Z", "20260301", "2026-02-30", None])
def test_a_day_to_close_is_written_as_a_day(closing: Callable[..., Any], day: object) -> None:
    refused = closing(day)
    assert refused.status_code == 422
    assert "2026-11-21" in refused.text
