"""A return in the ledger: it takes off sales what the card and the customer's points got back, once."""

from __future__ import annotations

from typing import Any

import pytest

from messages.ledger import LedgerPosted, ReturnPosted
from messages.loyalty import ReturnPointsCredited
from messages.payment import PaymentCaptured
from support.builders import a
from support.ledger_steps import Crash, handle, only
from support.ledgers import LedgerUnderTest

ENTRIES = """
    SELECT path, amount_minor FROM transfers JOIN transfer_entries ON transfer_id = transfers.id
    JOIN accounts ON accounts.id = account_id WHERE reference = :reference ORDER BY ordinal
"""


def entries_of(ledger: LedgerUnderTest, saga_id: str) -> list[tuple[Any, ...]]:
    """Return the accounts and the amounts of what a saga has posted."""
    return [tuple(row) for row in ledger.rows(ENTRIES, reference=f"{saga_id}:post_ledger")]


def credited(refund_minor: int, points_minor: int) -> ReturnPointsCredited:
    return a(
        ReturnPointsCredited,
        saga_type="return_order", currency="USD", refund_minor=refund_minor, points_minor=points_minor,
    )  # fmt: skip


@pytest.mark.parametrize(("refund_minor", "points_minor"), [(700, 0), (700, 80), (0, 80), (0, 0)])
def test_a_return_is_taken_off_sales(ledger: LedgerUnderTest, refund_minor: int, points_minor: int) -> None:
    event = credited(refund_minor, points_minor)
    answer = only(ledger, event)
    assert isinstance(answer, ReturnPosted)
    assert (answer.saga_id, answer.currency, answer.amount_minor) == (event.saga_id, "USD", refund_minor)
    expected = [("shop:sales:USD", refund_minor + points_minor), ("shop:gateway_receivable:USD", -refund_minor)]
    expected += [("shop:points_liability:USD", -points_minor)] if points_minor else []
    assert entries_of(ledger, event.saga_id) == expected


def test_a_return_of_everything_leaves_nothing_of_its_order(ledger: LedgerUnderTest) -> None:
    order = a(PaymentCaptured, currency="USD", amount_minor=900, points_minor=100)
    assert isinstance(only(ledger, order), LedgerPosted)
    returns = [credited(300, 33), credited(600, 67)]
    handle(ledger, *returns)
    sums: dict[str, int] = {}
    for saga_id in (order.saga_id, *(each.saga_id for each in returns)):
        for path, amount_minor in entries_of(ledger, saga_id):
            sums[path] = sums.get(path, 0) + amount_minor
    assert len(sums) == 3
    assert set(sums.values()) == {0}


def test_a_return_that_comes_again_is_posted_once(ledger: LedgerUnderTest) -> None:
    event = credited(700, 80)
    with pytest.raises(Crash):
        handle(ledger, event, crash=True)
    assert entries_of(ledger, event.saga_id) == []
    assert len(handle(ledger, event, event)) == 1
    before = entries_of(ledger, event.saga_id)
    assert handle(ledger, event) == []
    assert entries_of(ledger, event.saga_id) == before
