"""Lists of sagas: several values of a filter, pages behind a key, counts up to a limit, and what a text names."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from chassis.wire.envelope import new_id
from messages.contract import Message
from saga_tracker.store import saga_lists
from saga_tracker.store.saga_lists import COUNT_MAX, Filters
from support.console_api import Console
from support.tracker_peers import ORDER, message, successes

MANY = """
    INSERT INTO sagas (saga_id, saga_type, saga_version, subject, state, phase, step, cause, partition, progress,
                       version, started_at, updated_at)
    SELECT '01' || lpad(number::text, 24, '0'), 'order', 1, 'c' || number % 7, :state, 'ENDED', 'ship', :cause,
           number % 3, '{}', 1, now() - number * interval '1 second', now()
    FROM generate_series(1, :count) AS number
"""


def ids(answer: Any) -> list[str]:
    return [each["saga_id"] for each in answer["sagas"]]


def stopped(saga_id: str) -> list[Message]:
    """Return the events of an order whose second step is rejected, so that it compensates."""
    index = next(index for index, step in enumerate(ORDER.steps) if index and step.rejected_with is not None)
    type_ = ORDER.steps[index].rejected_with
    assert type_ is not None
    return [*successes(saga_id, up_to=index), message(type_, saga_id)]


def test_several_states_are_one_list_the_newest_first_page_by_page(console: Console) -> None:
    confirmed, running = [new_id() for _ in range(3)], [new_id() for _ in range(4)]
    for each in confirmed:
        console.tracked.record(*successes(each))
    for each in running:
        console.tracked.record(*successes(each, up_to=1))
    wanted = sorted([*confirmed, *running], reverse=True)
    found, cursor = [], None
    while True:
        page = console.get("/sagas", state=["CONFIRMED", "PENDING"], limit=3, **({"cursor": cursor} if cursor else {}))
        found += ids(page)
        if (cursor := page["next_cursor"]) is None:
            break
    started = {each["saga_id"]: each["started_at"] for each in console.get("/sagas")["sagas"]}
    assert sorted(found, reverse=True) == wanted, "each once"
    assert found == sorted(found, key=lambda each: (started[each], each), reverse=True)
    assert ids(console.get("/sagas", state="CONFIRMED")) == [each for each in found if each in confirmed]
    assert console.get("/saga-count", state=["CONFIRMED", "PENDING"]) == {"count": 7, "is_capped": False}


def test_sagas_are_found_by_cause_and_by_a_step_and_a_step_that_none_is_at_is_answered_at_once(
    console: Console,
) -> None:
    rejected, running = new_id(), new_id()
    console.tracked.record(*stopped(rejected), *successes(running, up_to=1))
    assert ids(console.get("/sagas", cause=["REJECTED", "TIMED_OUT"])) == [rejected]
    assert ids(console.get("/sagas", cause="CANCELLED")) == []
    assert ids(console.get("/sagas", step=ORDER.steps[1].name, state="PENDING", type="order")).count(running) == 1
    with console.engine.begin() as tx:
        tx.execute(text(MANY), {"state": "CONFIRMED", "cause": None, "count": 1})
        before = _read(tx)
        assert saga_lists.page(tx, Filters(steps=["no_such_step"]), cursor=None, limit=10).sagas == []
        assert _read(tx) == before, "no saga was read"


def _read(tx: Any) -> int:
    """Return how many rows of sagas this transaction has read."""
    query = """
        SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)
        FROM pg_stat_xact_user_tables WHERE relname = 'sagas'
    """
    return int(tx.execute(text(query)).scalar_one())


def test_a_count_ends_at_its_limit(console: Console) -> None:
    with console.engine.begin() as tx:
        tx.execute(text(MANY), {"state": "CANCELLED_COMPENSATED", "cause": "CANCELLED", "count": COUNT_MAX + 5})
    assert console.get("/saga-count") == {"count": COUNT_MAX, "is_capped": True}
    assert console.get("/saga-count", state=["PENDING", "CANCELLED_COMPENSATED"])["is_capped"] is True
    assert console.get("/saga-count", customer="c3")["count"] == len(range(3, COUNT_MAX + 6, 7))


def test_a_deep_page_reads_its_own_sagas_and_not_those_before(console: Console) -> None:
    with console.engine.begin() as tx:
        tx.execute(text(MANY), {"state": "CONFIRMED", "cause": None, "count": 5_000})
    with console.engine.begin() as tx:
        tx.execute(text("ANALYZE sagas"))
    filters, cursor = Filters(states=["CONFIRMED", "PENDING"]), None
    with console.engine.begin() as tx:
        for _ in range(20):
            before = _read(tx)
            page = saga_lists.page(tx, filters, cursor=cursor, limit=200)
            cursor = page.next_cursor
            assert _read(tx) - before <= 2 * 201 + 1


def test_the_group_of_the_review_selects_its_parked_sagas(console: Console) -> None:
    with console.engine.begin() as tx:
        tx.execute(text(MANY), {"state": "NEEDS_REVIEW", "cause": None, "count": 3})
        tx.execute(text("UPDATE sagas SET reason = 'no answer in ' || version || ' s', phase = 'RUNNING'"))
    (group,) = console.get("/review")["groups"]
    assert group["count"] == 3
    assert len(ids(console.get("/sagas", group=group["group"]))) == 3
    assert ids(console.get("/sagas", group="00000000")) == []


def test_one_box_finds_a_saga_by_its_id_its_beginning_its_customer_and_its_numbers(console: Console) -> None:
    saga_id = new_id()
    console.tracked.record(*successes(saga_id))
    with console.engine.connect() as tx:
        numbers = tx.execute(text("SELECT value FROM saga_references WHERE saga_id = :id"), {"id": saga_id}).scalars()
        typed = [saga_id, saga_id.lower(), f" {saga_id} ", saga_id[:12], "customer-1", *numbers]
    assert len(typed) > 5, "the order has numbers of its own"
    for each in typed:
        assert ids(console.get("/find", text=each)) == [saga_id], each
    assert ids(console.get("/sagas", id_prefix=saga_id[:20])) == [saga_id]
    assert console.get("/find", text="no-such-customer") == {"sagas": [], "plan_id": None}
    assert ids(console.get("/find", text="%%%%")) == [], "a sign of a pattern is only a sign"


def test_a_list_that_takes_too_long_ends_and_leaves_the_connection_as_it_was(console: Console) -> None:
    with console.engine.begin() as tx:
        saga_lists.bound(tx)
        assert tx.execute(text("SHOW statement_timeout")).scalar_one() == "2s"
    with console.engine.connect() as other, other.begin():
        other.execute(text("LOCK TABLE sagas IN ACCESS EXCLUSIVE MODE"))
        assert console.status("/sagas") == 503
    assert console.status("/sagas") == 200
    with console.engine.connect() as tx:
        assert tx.execute(text("SHOW statement_timeout")).scalar_one() != "2s"


@pytest.mark.parametrize(
    "query",
    [{"state": "GONE"}, {"cause": "?"}, {"step": "A B"}, {"group": "x"}, {"id_prefix": "01"}, {"limit": 201}],
    ids=str,
)
def test_a_filter_that_cannot_match_is_refused_with_its_name(console: Console, query: dict[str, Any]) -> None:
    assert console.status("/sagas", **query) == 422


@pytest.mark.parametrize("role", ["support", "operator", "finance", "approver"])
def test_staff_read_lists_and_customers_do_not(console: Console, role: str) -> None:
    for path in ("/sagas", "/saga-count", "/now", "/minutes", "/review", "/plans", "/dead-letters", "/acts"):
        assert console.status(path, role=role) == 200, path
        assert console.status(path, role="customer") == 403, path
