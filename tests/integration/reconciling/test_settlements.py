"""A paid batch is reported once, with what the gateway kept and what becomes available to each merchant."""

from __future__ import annotations

from datetime import timedelta

import pytest

from messages.reconciliation import SettlementReported
from reconciliation.store import settlements
from support.reconciling import CAPTURED, COST, LATER, PAYOUT, REFUNDED, Feed, Reconciled, both, capture, refund

each_gateway = pytest.mark.parametrize("gateway", ["stripe", "adyen"])


def batch_of(gateway: str) -> Feed:
    """Return a batch: two captures of two merchants, a refund, a fee of its own, and the payout of the rest."""
    feed = Feed(gateway)
    feed.add(CAPTURED[gateway], 10_000, payment_id=1, pspid="pay_1", reference="c1", fee_minor=300, batch="7")
    feed.add(CAPTURED[gateway], 5_000, payment_id=2, pspid="pay_2", reference="c2", fee_minor=150, batch="7")
    feed.add(REFUNDED[gateway], -2_000, payment_id=1, pspid="pay_1", reference="ref_1", batch="7")
    feed.add(COST[gateway], -50, payment_id=None, batch="7")
    feed.add(PAYOUT[gateway], -12_500, payment_id=None, reference="7", batch="7")
    return feed


@each_gateway
def test_a_batch_is_reported_once_whatever_is_delivered_again(books: Reconciled, gateway: str) -> None:
    account, feed = books.account(gateway), batch_of(gateway)
    books.record(*both(capture(account, 1, 10_000)), *both(capture(account, 2, 5_000, merchant_id="m-2")))
    books.record(*both(refund(account, 1, 1, 2_000)))
    books.deliver(account, "a.csv", feed.to_csv())
    run = books.run(account)
    assert books.states(run) == {"MATCHED": 4, "FEE_ONLY": 1}
    books.run(account)
    books.deliver(account, "again.csv", feed.to_csv())
    feed.add(CAPTURED[gateway], 1, payment_id=3, pspid="pay_3", reference="c3", batch="7")
    books.deliver(account, "a.csv", feed.to_csv())
    books.run(account)
    (event,) = books.published(SettlementReported)
    assert (event.batch, event.currency, event.paid_minor, event.cost_minor) == ("7", "USD", 12_500, 500)
    assert {(each.merchant_id, each.net_minor) for each in event.releases} == {("m-1", 9_990), ("m-2", 4_990)}
    assert event.paid_minor + event.cost_minor == 10_000 + 5_000 - 2_000
    assert (event.saga_type, event.gateway_account, event.is_live) == ("settlement", account.name, True)


def test_a_batch_waits_for_captures_that_the_ledger_does_not_have_yet(books: Reconciled) -> None:
    account = books.account("adyen")
    books.record(*both(capture(account, 1, 10_000)))
    books.deliver(account, "a.csv", batch_of("adyen").to_csv())
    books.run(account)
    assert books.published(SettlementReported) == []
    books.record(*both(capture(account, 2, 5_000, merchant_id="m-2")))
    books.run(account)
    (event,) = books.published(SettlementReported)
    assert len(event.releases) == 2


def test_a_batch_waits_a_day_at_most(books: Reconciled) -> None:
    account = books.account("adyen")
    books.record(*both(capture(account, 1, 10_000)))
    books.deliver(account, "a.csv", batch_of("adyen").to_csv())
    books.run(account)
    books.now = LATER
    books.run(account)
    (event,) = books.published(SettlementReported)
    assert [each.merchant_id for each in event.releases] == ["m-1"]


def test_a_capture_that_is_settled_again_is_released_once(books: Reconciled) -> None:
    account, feed = books.account("stripe"), Feed("stripe")
    books.record(*both(capture(account, 1, 10_000)))
    for batch in ("po_1", "po_2"):
        feed.add("charge", 10_000, payment_id=1, pspid="pay_1", reference=f"ch_{batch}", batch=batch)
        feed.add("payout", -10_000, payment_id=None, reference=batch, batch=batch)
    books.deliver(account, "a.csv", feed.to_csv())
    books.run(account)
    events = books.published(SettlementReported)
    assert [len(each.releases) for each in events] == [1, 0]


def test_the_end_of_its_saga_is_recorded(books: Reconciled) -> None:
    account = books.account("stripe")
    books.record(*both(capture(account, 1, 10_000)), *both(capture(account, 2, 5_000)))
    books.record(*both(refund(account, 1, 1, 2_000)))
    books.deliver(account, "a.csv", batch_of("stripe").to_csv())
    books.run(account)
    (event,) = books.published(SettlementReported)
    with books.engine.begin() as tx:
        settlements.end(event.saga_id, None, tx, at=books.now + timedelta(minutes=1))
    with books.engine.begin() as tx:
        settlements.end(event.saga_id, "late", tx, at=books.now + timedelta(minutes=2))
    (row,) = books.rows("SELECT state, failure FROM settlements")
    assert (row.state, row.failure) == ("BOOKED", None)
