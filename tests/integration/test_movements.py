"""Movements of stock and points on real tables: once for a key, also at once, and beside the release before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import pytest
from sqlalchemy import Engine, text

import inventory.tables
import loyalty.tables
from chassis.http import movements
from chassis.http.movements import Entered, MovementTables
from chassis.http.problem import Problem
from chassis.postgres import migrations
from chassis.values.movements import Balance, Movement, MovementKind
from stack import Stack
from support.postgres import scratch_database

BEFORE = "0002"
"""The revision of the release before."""
AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A service's balances: its statements, and those that the release before has for the same tables."""

    service: str
    tables: MovementTables
    field: str
    set_by_the_release_before: str
    sold: str
    recorded: str


STOCK = Kept(
    service="inventory",
    tables=inventory.tables,
    field="sku",
    set_by_the_release_before="""
        INSERT INTO stock (sku, received, on_hand) VALUES (:item, :units, :units)
        ON CONFLICT (sku) DO UPDATE
        SET received = stock.received + excluded.on_hand - stock.on_hand, on_hand = excluded.on_hand
    """,
    sold="UPDATE stock SET on_hand = on_hand - :units WHERE sku = :item",
    recorded="SELECT kind, units, made_by FROM stock_movements WHERE sku = :item ORDER BY made_at, kind DESC",
)
POINTS = Kept(
    service="loyalty",
    tables=loyalty.tables,
    field="customer_id",
    set_by_the_release_before="""
        INSERT INTO accounts (customer_id, granted, balance) VALUES (:item, :units, :units)
        ON CONFLICT (customer_id) DO UPDATE
        SET granted = accounts.granted + excluded.balance - accounts.balance, balance = excluded.balance
    """,
    sold="UPDATE accounts SET balance = balance - :units WHERE customer_id = :item",
    recorded="""
        SELECT kind, points, made_by FROM account_movements WHERE customer_id = :item ORDER BY made_at, kind DESC
    """,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """One service's balances in a database of their own."""

    engine: Engine
    kept: Kept

    def record(self, key: str, units: Mapping[str, int], *, by: str = "ann", reason: str = "A test.") -> Entered:
        """Record a correction of each item."""
        made = {
            item: Movement(kind=MovementKind.CORRECTED, units=moved, reason=reason) for item, moved in units.items()
        }
        with self.engine.begin() as tx:
            return movements.record(tx, self.kept.tables, by, key, made, field=self.kept.field)

    def open(self, units: Mapping[str, int]) -> Mapping[str, Balance]:
        """Open balances."""
        with self.engine.begin() as tx:
            return movements.opened(tx, self.kept.tables, "ann", units).balances

    def set(self, units: Mapping[str, int], if_match: str | None = None) -> None:
        """Set balances as PUT does."""
        with self.engine.begin() as tx:
            movements.set_balances(tx, self.kept.tables, "ann", units, if_match, field=self.kept.field)

    def balance(self, item: str) -> Balance:
        """Return a balance."""
        with self.engine.begin() as tx:
            return self.kept.tables.lock_balances(tx, [item])[item]

    def execute(self, statement: str, item: str, units: int) -> None:
        """Run a statement on one item."""
        with self.engine.begin() as tx:
            tx.execute(text(statement), {"item": item, "units": units})

    def recorded(self, item: str) -> list[tuple[str, int, str]]:
        """Return the movements of an item as (kind, units, who)."""
        with self.engine.begin() as tx:
            return [tuple(row) for row in tx.execute(text(self.kept.recorded), {"item": item})]


@pytest.fixture(scope="module", params=[STOCK, POINTS], ids=["stock", "points"])
def books(infrastructure: Stack, request: pytest.FixtureRequest) -> Iterator[Books]:
    kept: Kept = request.param
    with scratch_database(infrastructure) as engine:
        migrations.upgrade(kept.service, engine)
        yield Books(engine=engine, kept=kept)


def refused(books: Books, key: str, units: Mapping[str, int]) -> Problem:
    with pytest.raises(Problem) as raised:
        books.record(key, units)
    return raised.value


def test_what_was_sold_during_a_count_is_not_promised_again(books: Books) -> None:
    books.open({"counted": 10})
    books.execute(books.kept.sold, "counted", 8)

    with pytest.raises(Problem) as raised:
        books.set({"counted": 10})

    assert (raised.value.status, "2 are free" in raised.value.detail) == (428, True)
    assert books.balance("counted") == Balance(entered=10, free=2, opened=10)


def test_a_balance_is_set_at_the_version_that_was_read_and_at_no_other(books: Books) -> None:
    books.open({"versioned": 10})
    read = movements.etag(books.balance("versioned"))
    books.execute(books.kept.sold, "versioned", 1)
    with pytest.raises(Problem) as raised:
        books.set({"versioned": 12}, read)
    assert raised.value.status == 412

    books.set({"versioned": 12}, raised.value.headers["ETag"])

    assert books.balance("versioned") == Balance(entered=13, free=12, opened=10)
    assert books.recorded("versioned") == [("OPENED", 10, "ann"), ("COUNTED", 3, "ann")]


def test_any_version_is_no_version(books: Books) -> None:
    books.open({"any version": 10})
    books.execute(books.kept.sold, "any version", 8)
    for condition in ("*", '"10-10", *'):
        with pytest.raises(Problem) as raised:
            books.set({"any version": 10}, condition)
        assert raised.value.status == 412
    assert books.balance("any version").free == 2


def test_an_unknown_balance_has_no_version_to_match(books: Books) -> None:
    for condition in ("*", '"0-0"'):
        with pytest.raises(Problem) as raised:
            books.set({"never heard of": 1}, condition)
        assert raised.value.status == 412


def test_opening_again_changes_nothing(books: Books) -> None:
    books.open({"opened": 10})
    books.execute(books.kept.sold, "opened", 3)

    again = books.open({"opened": 10, "new": 5})

    assert again == {
        "opened": Balance(entered=10, free=7, opened=10),
        "new": Balance(entered=5, free=5, opened=5),
    }
    assert books.recorded("opened") == [("OPENED", 10, "ann")]


def test_a_key_moves_once_also_at_the_same_time(books: Books) -> None:
    books.open({"raced": 10})
    start = Barrier(AT_ONCE)

    def move(_: int) -> bool:
        start.wait()
        return books.record("one key", {"raced": 5}).is_replay

    with ThreadPoolExecutor(AT_ONCE) as threads:
        replays = list(threads.map(move, range(AT_ONCE)))

    assert sorted(replays) == [False, True, True, True]
    assert books.balance("raced").free == 15


def test_a_key_is_its_callers_own_and_fits_one_body(books: Books) -> None:
    books.open({"keyed": 10, "other": 10})
    books.record("a key", {"keyed": 1})

    for units in ({"keyed": 2}, {"other": 1}, {"keyed": 1, "other": 1}):
        assert refused(books, "a key", units).type == "urn:baraza:problem:idempotency-mismatch"
    with pytest.raises(Problem):
        books.record("a key", {"keyed": 1}, reason="Another reason.")
    books.record("a key", {"keyed": 1}, by="ben")

    assert books.balance("keyed").free == 12


def test_what_orders_hold_is_not_taken_out_and_nothing_of_the_request_happens(books: Books) -> None:
    books.open({"held": 10, "free": 10})
    books.execute(books.kept.sold, "held", 8)

    problem = refused(books, "too much", {"free": 1, "held": -3})

    assert (problem.status, problem.extra["errors"]) == (
        409,
        [{"pointer": f"#/1/{books.kept.field}", "detail": "Only 2 are free, so 3 cannot be taken out."}],
    )
    assert books.balance("free").free == 10
    books.record("too much", {"held": -2})


def test_what_is_not_known_is_named(books: Books) -> None:
    problem = refused(books, "unknown", {"unheard of": 1})

    assert (problem.status, problem.detail) == (422, f"#/0/{books.kept.field}: Not known; open its balance first.")


def test_what_the_release_before_sets_during_a_roll_out_is_recorded(books: Books) -> None:
    books.execute(books.kept.set_by_the_release_before, "old", 10)
    books.execute(books.kept.sold, "old", 4)
    books.execute(books.kept.set_by_the_release_before, "old", 9)
    books.record("after it", {"old": 1})

    kinds = [(kind, units) for kind, units, _ in books.recorded("old")]
    assert kinds == [("OPENED", 10), ("CORRECTED", 3), ("CORRECTED", 1)]
    assert books.balance("old").entered == sum(units for _, units in kinds)


@pytest.mark.parametrize("kept", [STOCK, POINTS], ids=["stock", "points"])
def test_what_was_there_before_the_migration_has_one_opening_movement(infrastructure: Stack, kept: Kept) -> None:
    with scratch_database(infrastructure) as engine:
        books = Books(engine=engine, kept=kept)
        migrations.upgrade(kept.service, engine, BEFORE)
        books.execute(kept.set_by_the_release_before, "old", 10)
        books.execute(kept.sold, "old", 4)
        migrations.upgrade(kept.service, engine)

        assert books.balance("old") == Balance(entered=10, free=6, opened=10)
        assert books.recorded("old") == [("OPENED", 10, "migration 0003")]
