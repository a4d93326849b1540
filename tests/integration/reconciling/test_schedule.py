"""When runs are made: every hour over what changed, and of each day again, also after a downtime."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from messages.reconciliation import DivergenceFound
from support.reconciling import NOON, Feed, Reconciled, both, capture


def kinds(books: Reconciled) -> list[tuple[str, date | None]]:
    return [(row.kind, row.day) for row in books.rows("SELECT kind, day FROM runs ORDER BY run")]


def test_a_run_is_made_every_hour_over_what_changed(books: Reconciled) -> None:
    account, feed = books.account("stripe"), Feed("stripe")
    for number in (1, 2):
        books.record(*both(capture(account, number, 500)))
        feed.add("charge", 500, payment_id=number, pspid=f"pay_{number}", reference="c")
    books.deliver(account, "a.csv", feed.to_csv())
    assert (books.due(), books.due()) == (1, 0)
    books.now += timedelta(minutes=61)
    books.record(*both(capture(account, 3, 500)))
    assert books.due() == 1
    runs = books.rows("SELECT kind, line_count FROM runs ORDER BY run")
    assert [(row.kind, row.line_count) for row in runs] == [("HOURLY", 2), ("HOURLY", 3)], "those overlap a little"
    books.now += timedelta(minutes=61)
    assert books.due() == 1
    (last,) = books.rows("SELECT line_count FROM runs WHERE run = 3")
    assert last.line_count == 1, "what did not change is not looked at"
    assert len(books.rows("SELECT FROM pending")) == 1


def test_what_is_pending_is_missing_once_its_time_is_over(books: Reconciled) -> None:
    account = books.account("stripe")
    books.record(*both(capture(account, 1, 500)))
    books.due()
    assert books.open() == {}
    books.now = datetime(2026, 3, 10, 5, tzinfo=UTC)  # three business days behind Wednesday is Monday
    books.due()
    assert books.open() == {}
    books.now += timedelta(hours=2)
    books.due()
    assert books.open() == {(1, "CAPTURE"): "MISSING_AT_GATEWAY"}
    assert len(books.published(DivergenceFound)) == 1


def test_after_a_downtime_every_day_is_reconciled_again_in_order(books: Reconciled) -> None:
    account, feed = books.account("stripe"), Feed("stripe")
    for shift in range(3):
        number, at = shift + 1, NOON + timedelta(days=shift)
        books.record(*both(capture(account, number, 500, occurred_at=at)))
        feed.add("charge", 500, payment_id=number, pspid=f"pay_{number}", reference="c",
                 local=f"{at:%Y-%m-%d %H:%M:%S}")  # fmt: skip
    books.deliver(account, "a.csv", feed.to_csv())
    books.now = NOON + timedelta(days=16)
    books.due()
    days = [(NOON + timedelta(days=shift)).date() for shift in range(3)]
    assert kinds(books)[0] == ("HOURLY", None)
    assert [each for each in kinds(books) if each[1] in days] == [
        ("T7", days[0]), ("T7", days[1]), ("T7", days[2]), ("T14", days[0]), ("T14", days[1]),
    ]  # fmt: skip
    books.now = NOON + timedelta(days=60)
    books.due()
    made = kinds(books)
    assert len(made) == len(set(made)) + sum(kind == "HOURLY" for kind, _ in made) - 1, "each day once by each kind"
    assert {("T30", day) for day in days} <= set(made)
    clean = books.rows("SELECT open_count, line_count FROM runs WHERE kind = 'T30' AND day = ANY(:days)", days=days)
    assert [(row.open_count, row.line_count) for row in clean] == [(0, 1)] * 3


def test_a_feed_that_is_unavailable_makes_its_run_late_and_no_other(books: Reconciled, tmp_path: Path) -> None:
    lost = books.account("stripe", feed=str(tmp_path / "gone"))
    other = books.account("adyen")
    assert books.due() == 1
    assert [row.account for row in books.rows("SELECT account FROM runs")] == [other.name]
    (lag,) = books.rows("SELECT account FROM progress WHERE run_at IS NULL")
    assert lag.account == lost.name


def test_what_a_person_explained_stays_closed_until_it_changes(books: Reconciled) -> None:
    from reconciliation.store import divergences

    account, feed = books.account("stripe"), Feed("stripe")
    books.record(*both(capture(account, 1, 500)))
    later = NOON + timedelta(days=40)
    books.run(account, as_of=later)
    (found,) = books.rows("SELECT divergence_id FROM divergences")
    with books.engine.begin() as tx:
        closed = divergences.explain(found.divergence_id, tx, by="fin-1", reason="paid by hand", now=books.now)
        assert closed is not None
        assert divergences.explain(found.divergence_id, tx, by="fin-2", reason="again", now=books.now) is None
    run = books.run(account, as_of=later)
    assert (run.open_count, run.opened, run.changed, books.states(run)["MISSING_AT_GATEWAY"]) == (0, 0, 0, 1)
    feed.add("charge", 499, payment_id=1, pspid="pay_1", reference="c")
    books.deliver(account, "a.csv", feed.to_csv())
    run = books.run(account, as_of=later)
    assert (run.open_count, run.changed) == (1, 1)
    assert books.open() == {(1, "CAPTURE"): "AMOUNT_MISMATCH"}
