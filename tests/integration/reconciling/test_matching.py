"""Each kind of divergence is found where it was planted, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from chassis.http.gateway_accounts import GatewayAccount
from messages.reconciliation import DivergenceFound
from reconciliation.model.kinds import Kind, Source
from support.reconciling import (
    CAPTURED,
    COST,
    DISPUTED,
    LATER,
    NOON,
    PAYOUT,
    REFUNDED,
    Feed,
    Reconciled,
    both,
    capture,
    refund,
)

GATEWAYS = ("stripe", "adyen")
each_gateway = pytest.mark.parametrize("gateway", GATEWAYS)
NUMBERS = count(7_000_000_000_000_000_001)


def line(feed: Feed, payment_id: int, amount_minor: int, **fields: Any) -> None:
    """Add a gateway's line of a capture."""
    known = {"payment_id": payment_id, "pspid": f"pay_{payment_id}", "reference": f"cap_{payment_id}", **fields}
    feed.add(CAPTURED[feed.gateway], amount_minor, **known)


def returned(feed: Feed, payment_id: int, refund_id: int, amount_minor: int, **fields: Any) -> None:
    """Add a gateway's line of a refund."""
    known = {"payment_id": payment_id, "pspid": f"pay_{payment_id}", "reference": f"ref_{refund_id}", **fields}
    feed.add(REFUNDED[feed.gateway], -amount_minor, **known)


def planted(books: Reconciled, account: GatewayAccount, feed: Feed) -> dict[tuple[int | None, str], str]:
    """Plant one divergence of every kind between good payments, and return what must be found."""
    ids = [next(NUMBERS) for _ in range(20)]
    for good in ids[:5]:
        books.record(*both(capture(account, good, 10_000)))
        line(feed, good, 10_000, fee_minor=290)
    books.record(*both(refund(account, ids[0], 1, 4_000)), *both(refund(account, ids[0], 2, 4_000)))
    returned(feed, ids[0], 1, 4_000)
    returned(feed, ids[0], 2, 4_000)
    books.record(*both(capture(account, ids[5], 10_000)))  # the feed has none of it
    line(feed, ids[6], 10_000)  # we have none of it
    books.record(*both(capture(account, ids[7], 10_000)))
    line(feed, ids[7], 9_000)
    books.record(*both(capture(account, ids[8], 10_000)))
    line(feed, ids[8], 10_000, currency="EUR")
    voided = capture(account, ids[9], 0, kind=Kind.VOID, fee_minor=0)
    books.record(voided)
    line(feed, ids[9], 10_000)
    books.record(*both(capture(account, ids[10], 10_000)))
    line(feed, ids[10], 10_000)
    line(feed, ids[10], 10_000, reference="cap_again")
    books.record(*both(capture(account, ids[11], 10_000)), *both(refund(account, ids[11], 3, 10_000)))
    line(feed, ids[11], 10_000)  # its refund is not in the feed
    books.record(capture(account, ids[12], 10_000), replace(capture(account, ids[12], 9_999), source=Source.GATEWAY))
    line(feed, ids[12], 10_000)  # the webhook proved another amount
    books.record(capture(account, ids[13], 10_000))
    line(feed, ids[13], 10_000)  # no webhook has proved it
    line(feed, ids[14], 0)
    feed.rows.pop()
    disputed = capture(account, ids[1], 10_000, kind=Kind.DISPUTED, fee_minor=0, reference="dp_1")
    books.record(*both(disputed))
    feed.add(
        DISPUTED[feed.gateway], -10_000, payment_id=ids[1], pspid=f"pay_{ids[1]}", reference="dp_1", fee_minor=1_500
    )
    return {
        (ids[5], "CAPTURE"): "MISSING_AT_GATEWAY",
        (ids[6], "CAPTURE"): "MISSING_IN_LEDGER",
        (ids[7], "CAPTURE"): "AMOUNT_MISMATCH",
        (ids[8], "CAPTURE"): "CURRENCY_MISMATCH",
        (ids[9], "CAPTURE"): "STATE_MISMATCH",
        (ids[10], "CAPTURE"): "DUPLICATE",
        (ids[11], "REFUND"): "MISSING_AT_GATEWAY",
        (ids[12], "CAPTURE"): "AMOUNT_MISMATCH",
        (ids[13], "CAPTURE"): "STATE_MISMATCH",
    }


@each_gateway
def test_exactly_the_planted_divergences_are_found(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    expected = planted(books, account, feed)
    feed.add(COST[gateway], -300, payment_id=None, batch="b-1")
    feed.add("unheard of", -77, payment_id=None)
    expected[(None, "OTHER")] = "MISSING_IN_LEDGER"
    books.deliver(account, "a.csv", feed.to_csv())
    fresh = books.run(account)
    assert fresh.open_count == 0, "what is only minutes old is pending"
    books.now = LATER
    run = books.run(account)
    assert books.open() == expected
    assert (run.opened, run.closed, run.changed, run.open_count) == (10, 0, 0, 10)
    states = books.states(run)
    assert states["FEE_ONLY"] == 1
    assert states["MATCHED"] == 5 + 2 + 1 + 1  # captures, refunds, the dispute, and the capture whose refund is missing
    published = [each for each in books.published(DivergenceFound) if each.run == run.run]
    assert {(each.payment_id, each.kind) for each in published} == {(key[0], kind) for key, kind in expected.items()}


@each_gateway
def test_a_rerun_says_what_opened_closed_and_changed(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    first, second, third = (next(NUMBERS) for _ in range(3))
    for payment_id in (first, second, third):
        books.record(*both(capture(account, payment_id, 5_000)))
    line(feed, first, 4_000)
    books.deliver(account, "a.csv", feed.to_csv())
    books.run(account)
    books.now = LATER
    run = books.run(account)
    assert (run.opened, run.closed, run.changed) == (3, 0, 0)
    again = books.run(account)
    assert (again.opened, again.closed, again.changed, again.open_count) == (0, 0, 0, 3)
    line(feed, second, 5_000)
    line(feed, third, 1)
    books.deliver(account, "a.csv", feed.to_csv())
    last = books.run(account, as_of=LATER + timedelta(hours=2))
    assert (last.opened, last.closed, last.changed) == (0, 1, 1)
    changes = books.rows("SELECT change, kind_before, kind_after FROM run_changes WHERE run = :run", run=last.run)
    assert sorted(map(tuple, changes), key=str) == [
        ("CHANGED", "MISSING_AT_GATEWAY", "AMOUNT_MISMATCH"),
        ("CLOSED", "MISSING_AT_GATEWAY", None),
    ]
    assert books.states(last) == {"MATCHED": 1, "AMOUNT_MISMATCH": 2}


def test_a_run_is_never_changed(books: Reconciled) -> None:
    account = books.account("stripe")
    books.record(*both(capture(account, next(NUMBERS), 5_000)))
    run = books.run(account)
    for table in ("runs", "run_lines", "run_counts"):
        with pytest.raises(Exception, match="is refused: a run is never changed"), books.engine.begin() as tx:
            tx.exec_driver_sql(f"UPDATE {table} SET run = 2 WHERE run = {run.run}")  # noqa: S608


def test_two_lines_of_a_partial_capture_are_one_capture(books: Reconciled) -> None:
    account, feed = books.account("stripe"), Feed("stripe")
    payment_id = next(NUMBERS)
    books.record(*both(capture(account, payment_id, 6_000)))
    line(feed, payment_id, 10_000)
    feed.add("partial_capture_reversal", -4_000, payment_id=payment_id, pspid=f"pay_{payment_id}", reference="ch")
    books.deliver(account, "a.csv", feed.to_csv())
    assert books.states(books.run(account)) == {"MATCHED": 1}


@each_gateway
def test_a_payment_without_our_number_is_found_by_the_gateways_id(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    payment_id = next(NUMBERS)
    books.record(*both(capture(account, payment_id, 6_000)))
    feed.add(CAPTURED[gateway], 6_000, payment_id=None, pspid=f"pay_{payment_id}", reference="c")
    books.deliver(account, "a.csv", feed.to_csv())
    assert books.states(books.run(account)) == {"MATCHED": 1}


@each_gateway
def test_an_equal_amount_on_the_same_day_matches_nothing(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    ours, theirs = next(NUMBERS), next(NUMBERS)
    books.record(*both(capture(account, ours, 6_000)))
    feed.add(CAPTURED[gateway], 6_000, payment_id=theirs, pspid="another", reference="c")
    books.deliver(account, "a.csv", feed.to_csv())
    books.run(account)
    books.now = LATER
    books.run(account)
    assert books.open() == {
        (ours, "CAPTURE"): "MISSING_AT_GATEWAY",
        (theirs, "CAPTURE"): "MISSING_IN_LEDGER",
    }


@each_gateway
def test_what_was_taken_back_on_both_sides_is_matched(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    payment_id, other = next(NUMBERS), next(NUMBERS)
    books.record(*both(capture(account, payment_id, 6_000)), *both(refund(account, payment_id, 9, 6_000)))
    failed = refund(account, payment_id, 9, 6_000, kind=Kind.REFUND_FAILED, reference="rf_other")
    books.record(*both(failed))
    line(feed, payment_id, 6_000)
    returned(feed, payment_id, 9, 6_000)
    category = {"stripe": "refund_failure", "adyen": "RefundedReversed"}[gateway]
    feed.add(category, 6_000, payment_id=payment_id, pspid=f"pay_{payment_id}", reference="ref_9")
    # A capture that failed days later was never settled.
    books.record(*both(capture(account, other, 3_000)))
    books.record(*both(capture(account, other, 3_000, kind=Kind.CAPTURE_FAILED, fee_minor=0)))
    books.deliver(account, "a.csv", feed.to_csv())
    books.now = LATER
    assert books.states(books.run(account)) == {"MATCHED": 3}


def test_a_capture_that_we_think_failed_and_the_gateway_paid_is_a_state_mismatch(books: Reconciled) -> None:
    account, feed = books.account("adyen"), Feed("adyen")
    payment_id = next(NUMBERS)
    books.record(*both(capture(account, payment_id, 3_000)))
    books.record(*both(capture(account, payment_id, 3_000, kind=Kind.CAPTURE_FAILED, fee_minor=0)))
    line(feed, payment_id, 3_000)
    books.deliver(account, "a.csv", feed.to_csv())
    books.run(account)
    books.now = LATER
    books.run(account)
    assert books.open() == {(payment_id, "CAPTURE"): "STATE_MISMATCH"}


@each_gateway
@pytest.mark.parametrize("currency", ["USD", "JPY", "KRW", "ISK", "CLP", "BHD"])
def test_amounts_of_every_exponent_are_equal_where_they_are(books: Reconciled, gateway: str, currency: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    small, large = next(NUMBERS), next(NUMBERS)
    for payment_id, amount_minor in ((small, 1_500), (large, 123_456_789_000)):
        books.record(*both(capture(account, payment_id, amount_minor, currency=currency)))
        line(feed, payment_id, amount_minor, currency=currency)
    books.deliver(account, "a.csv", feed.to_csv())
    assert books.states(books.run(account)) == {"MATCHED": 2}


@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        ("Europe/Amsterdam", "2026-03-29 23:59:59.9", datetime(2026, 3, 29, 21, 59, 59, 900_000, tzinfo=UTC)),
        ("Europe/Amsterdam", "2026-10-25 23:59:59.9", datetime(2026, 10, 25, 22, 59, 59, 900_000, tzinfo=UTC)),
        ("America/Santiago", "2026-04-04 23:59:59.9", datetime(2026, 4, 5, 3, 59, 59, 900_000, tzinfo=UTC)),
        ("Australia/Lord_Howe", "2026-04-05 23:59:59.9", datetime(2026, 4, 5, 13, 29, 59, 900_000, tzinfo=UTC)),
    ],
)
def test_a_capture_at_the_end_of_the_day_of_a_clock_change_is_matched_once(
    books: Reconciled, zone: str, local: str, utc: datetime
) -> None:
    account, feed = books.account("adyen"), Feed("adyen")
    payment_id = next(NUMBERS)
    books.now = utc + timedelta(hours=3)
    books.record(*both(capture(account, payment_id, 100, occurred_at=utc)))
    line(feed, payment_id, 100, local=local, zone=zone)
    books.deliver(account, "a.csv", feed.to_csv())
    books.run(account)
    states = [books.states(books.run(account, day=utc.date() + timedelta(days=shift))) for shift in (-1, 0, 1)]
    assert [dict(each) for each in states] == [{}, {"MATCHED": 1}, {}]
    (found,) = books.rows("SELECT occurred_at FROM feed_lines")
    assert found.occurred_at == utc


@each_gateway
def test_a_file_delivered_twice_changes_nothing_and_a_changed_one_replaces_its_lines(
    books: Reconciled, gateway: str
) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    kept, dropped = next(NUMBERS), next(NUMBERS)
    for payment_id in (kept, dropped):
        books.record(*both(capture(account, payment_id, 700)))
        line(feed, payment_id, 700)
    books.deliver(account, "a.csv", feed.to_csv())
    assert books.states(books.run(account)) == {"MATCHED": 2}
    assert books.states(books.run(account)) == {"MATCHED": 2}
    assert [row.version for row in books.rows("SELECT version FROM feed_files")] == [1]
    books.deliver(account, "b.csv", feed.to_csv())  # the same lines under another name
    assert books.states(books.run(account)) == {"MATCHED": 2}
    feed.rows.pop()
    for name in ("a.csv", "b.csv"):
        books.deliver(account, name, feed.to_csv())
    books.now = LATER
    run = books.run(account)
    assert books.states(run) == {"MATCHED": 1, "MISSING_AT_GATEWAY": 1}
    assert books.open() == {(dropped, "CAPTURE"): "MISSING_AT_GATEWAY"}
    kept_files = {row.digest for row in books.rows("SELECT digest FROM feed_files")}
    assert {name.rpartition("/")[2].removesuffix(".csv") for name in books.lake.names("feeds")} == kept_files


@each_gateway
def test_a_file_that_cannot_be_read_is_kept_and_refused_as_a_whole(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    line(feed, next(NUMBERS), 700)
    line(feed, next(NUMBERS), 700)
    data = feed.to_csv().replace(b"7.00", b"7.001", 5)
    books.deliver(account, "a.csv", data)
    run = books.run(account)
    (file,) = books.rows("SELECT refusal, digest FROM feed_files")
    assert "Line 2, column" in file.refusal
    assert run.line_count == 0
    assert books.lake.read(f"feeds/{account.name}/{file.digest}.csv") == data


@each_gateway
def test_a_payout_that_differs_from_its_batch_is_found(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), Feed(gateway)
    for batch, paid in (("b-1", 970), ("b-2", 960)):
        payment_id = next(NUMBERS)
        books.record(*both(capture(account, payment_id, 1_000)))
        line(feed, payment_id, 1_000, fee_minor=30, batch=batch)
        feed.add(PAYOUT[gateway], -paid, payment_id=None, reference=batch, batch=batch)
    books.deliver(account, "a.csv", feed.to_csv())
    books.run(account)
    books.now = LATER
    run = books.run(account)
    assert books.open() == {(None, "PAYOUT"): "AMOUNT_MISMATCH"}
    assert books.states(run) == {"MATCHED": 3, "AMOUNT_MISMATCH": 1}


def test_nothing_is_late_before_its_time(books: Reconciled) -> None:
    account, feed = books.account("stripe"), Feed("stripe")
    early, late = next(NUMBERS), next(NUMBERS)
    for payment_id, local in ((early, "2026-03-06 01:00:00"), (late, "2026-03-08 01:00:00")):
        books.record(*both(capture(account, payment_id, 700)))
        line(feed, payment_id, 700, local=local)
    books.deliver(account, "a.csv", feed.to_csv())
    assert books.states(books.run(account)) == {"MATCHED": 1, "LATE": 1}
    assert NOON.weekday() == 2
