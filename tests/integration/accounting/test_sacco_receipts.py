"""Receipts of a SACCO in the ledger: recorded once, allocated by a policy, or returned."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ledger.model.transfers import NotBooked
from ledger.store.accounts import close_account
from messages.ledger import (
    AssignedReceiptAllocated,
    ReceiptAllocated,
    ReceiptRecorded,
    ReturnCommitted,
    ReturnHeld,
    ReturnHoldRefused,
    ReturnReleased,
)
from support.ledger_steps import Crash, handle, only
from support.ledgers import LedgerUnderTest
from support.sacco_bookings import SaccoUnderTest, nairobi


@pytest.fixture
def sacco(ledger: LedgerUnderTest) -> SaccoUnderTest:
    return SaccoUnderTest(ledger=ledger).register()


def unallocated(ledger: LedgerUnderTest) -> int:
    totals = ledger.totals().get("sacco:unallocated:KES", (0, 0, 0, 0))
    return totals[1] - totals[0]


def parts(answer: Any) -> list[tuple[str, str, int]]:
    return [(each.kind, each.owner, each.allocated_minor) for each in answer.allocations]


def test_a_receipt_is_recorded_at_its_value_date_among_what_is_not_allocated(sacco: SaccoUnderTest) -> None:
    receipt, before = sacco.receipt(1_000, completed_at=nairobi(3)), unallocated(sacco.ledger)
    recorded = only(sacco.ledger, receipt.received(reference="DEP00123", payer_hash="ab", collection_id=None))
    assert isinstance(recorded, ReceiptRecorded)
    assert (recorded.receipt, recorded.reference, recorded.payer_hash) == (receipt.receipt, "DEP00123", "ab")
    assert (sacco.posted("utility"), unallocated(sacco.ledger) - before) == (1_000, 1_000)
    (row,) = sacco.ledger.rows("SELECT effective_at FROM transfers WHERE saga_id = :it", it=receipt.saga_id)
    assert (row.effective_at, receipt.state()) == (nairobi(3), "UNALLOCATED")


def test_one_receipt_is_recorded_once_by_whatever_saga(sacco: SaccoUnderTest) -> None:
    """frappe-mpsa-payments#53: one receipt, two messages, one credit."""
    receipt = sacco.receipt(1_000)
    received = receipt.received()
    handle(sacco.ledger, received, received)
    handle(sacco.ledger, received)
    with pytest.raises(NotBooked, match="is recorded by saga"):
        handle(sacco.ledger, sacco.receipt(1_000, receipt=receipt.receipt).received())
    assert sacco.posted("utility") == 1_000


def test_of_two_sagas_that_record_one_receipt_at_once_one_does(sacco: SaccoUnderTest) -> None:
    first = sacco.receipt(1_000)
    sagas = [first.received(), *(sacco.receipt(1_000, receipt=first.receipt).received() for _ in range(3))]

    def attempt(message: Any) -> bool:
        try:
            handle(sacco.ledger, message)
        except Exception:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, sagas)) == 1
    assert sacco.posted("utility") == 1_000


def test_an_attributed_receipt_is_credited_and_its_policy_is_stored_with_its_inputs(sacco: SaccoUnderTest) -> None:
    receipt, before = sacco.receipt(1_000), unallocated(sacco.ledger)
    allocated = receipt.allocate()
    assert isinstance(allocated, ReceiptAllocated)
    assert (allocated.state, allocated.reason, allocated.loan_balance_minor) == ("ALLOCATED", None, None)
    assert parts(allocated) == [("SAVINGS", sacco.member_id, 1_000)]
    assert (sacco.posted("fosa"), unallocated(sacco.ledger)) == (-1_000, before)
    (row,) = sacco.ledger.rows(
        "SELECT state, member_id, policy, policy_version, inputs FROM receipt_books WHERE saga_id = :it",
        it=receipt.saga_id,
    )
    assert tuple(row)[:4] == ("ALLOCATED", sacco.member_id, "default", 3)
    assert row.inputs["targets"] == [receipt.to_savings()]


def test_targets_take_up_to_their_limits_and_the_last_one_the_rest(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000)
    shares = {"kind": "SHARES", "owner": sacco.member_id, "limit_minor": 300}
    deposits = {"kind": "DEPOSITS", "owner": sacco.member_id, "limit_minor": 600}
    allocated = receipt.allocate(shares, deposits, receipt.to_savings())
    assert parts(allocated) == [
        ("SHARES", sacco.member_id, 300), ("DEPOSITS", sacco.member_id, 600), ("SAVINGS", sacco.member_id, 100),
    ]  # fmt: skip
    assert (sacco.posted("shares"), sacco.posted("deposits"), sacco.posted("fosa")) == (-300, -600, -100)


def test_a_receipt_in_suspense_books_nothing_and_says_why(sacco: SaccoUnderTest) -> None:
    receipt, before = sacco.receipt(1_000).record(), unallocated(sacco.ledger)
    waiting = only(sacco.ledger, receipt.suspended())
    assert isinstance(waiting, ReceiptAllocated)
    assert (waiting.state, waiting.reason, waiting.allocations) == ("SUSPENSE", "unknown_reference", ())
    assert (unallocated(sacco.ledger), receipt.state()) == (before, "UNALLOCATED")


def test_a_receipt_whose_every_target_is_closed_stays_with_the_reason(sacco: SaccoUnderTest) -> None:
    with sacco.ledger.engine.begin() as tx:
        assert close_account(sacco.path("shares"), tx)
    receipt = sacco.receipt(1_000)
    stays = receipt.allocate({"kind": "SHARES", "owner": sacco.member_id, "limit_minor": None})
    assert (stays.state, stays.reason, receipt.state()) == ("SUSPENSE", "account_closed", "UNALLOCATED")
    unknown = sacco.receipt(1_000).allocate({"kind": "LOAN", "owner": "LN404", "limit_minor": None})
    assert (unknown.state, unknown.reason) == ("SUSPENSE", "loan_closed")


def test_an_assigned_receipt_is_allocated_and_a_second_assignment_books_nothing(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000).record()
    handle(sacco.ledger, receipt.suspended())
    allocated = only(sacco.ledger, receipt.assigned())
    assert isinstance(allocated, AssignedReceiptAllocated)
    assert parts(allocated) == [("SAVINGS", sacco.member_id, 1_000)]
    again = only(sacco.ledger, receipt.assigned())
    assert isinstance(again, AssignedReceiptAllocated)
    assert again.allocations == ()
    assert (sacco.posted("fosa"), receipt.state()) == (-1_000, "ALLOCATED")


def test_two_assignments_at_once_credit_once(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000).record()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: only(sacco.ledger, receipt.assigned()), range(4)))
    assert sorted(len(each.allocations) for each in answers) == [0, 0, 0, 1]
    assert sacco.posted("fosa") == -1_000


def test_an_assignment_of_another_amount_than_was_recorded_is_not_booked(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000).record()
    with pytest.raises(NotBooked, match="has recorded"):
        handle(sacco.ledger, receipt.assigned(amount_minor=1_001))


def test_a_receipt_that_is_not_allocated_is_returned_to_its_payer(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000).record()
    back = receipt.returned()
    held = only(sacco.ledger, back.approved())
    assert isinstance(held, ReturnHeld)
    assert (sacco.posted("returns_in_transit", back.saga_id), receipt.state()) == (-1_000, "RETURNING")
    committed = only(sacco.ledger, back.reversed())
    assert isinstance(committed, ReturnCommitted)
    assert sacco.posted("returns_in_transit", back.saga_id) == 0
    assert (sacco.posted("utility"), receipt.state()) == (0, "RETURNED")


def test_a_receipt_on_its_way_back_is_neither_allocated_nor_returned_twice(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000).record()
    handle(sacco.ledger, receipt.returned().approved())
    refused = only(sacco.ledger, receipt.returned().approved())
    assert isinstance(refused, ReturnHoldRefused)
    assert refused.reason == "returning"
    assert only(sacco.ledger, receipt.assigned()).allocations == ()
    assert sacco.posted("fosa") == 0


def test_what_a_member_got_is_returned_from_savings_unless_it_is_spent(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000)
    receipt.allocate()
    wrong = only(sacco.ledger, receipt.returned().approved())
    assert (type(wrong), wrong.reason) == (ReturnHoldRefused, "allocated")
    sacco.withdrawal(500).pay()
    spent = only(sacco.ledger, receipt.returned("SAVINGS", sacco.member_id).approved())
    assert (type(spent), spent.reason, spent.member_id) == (ReturnHoldRefused, "spent", sacco.member_id)
    assert (sacco.posted("fosa"), receipt.state()) == (-500, "ALLOCATED")
    sacco.fund(500)
    back = receipt.returned("SAVINGS", sacco.member_id)
    handle(sacco.ledger, back.approved())
    handle(sacco.ledger, back.reversed())
    assert (sacco.posted("fosa"), receipt.state()) == (0, "RETURNED")


@pytest.mark.parametrize("is_allocated", [False, True])
def test_a_return_that_is_refused_by_the_provider_leaves_the_receipt_as_it_was(
    sacco: SaccoUnderTest, is_allocated: bool
) -> None:
    receipt, before = sacco.receipt(1_000).record(), "ALLOCATED" if is_allocated else "UNALLOCATED"
    if is_allocated:
        handle(sacco.ledger, receipt.attributed())
    back = receipt.returned("SAVINGS" if is_allocated else "UNALLOCATED", sacco.member_id)
    handle(sacco.ledger, back.approved())
    released = only(sacco.ledger, back.release())
    assert isinstance(released, ReturnReleased)
    assert released.undone
    assert (receipt.state(), sacco.posted("returns_in_transit", back.saga_id)) == (before, 0)
    assert sacco.posted("fosa") == (-1_000 if is_allocated else 0)
    with pytest.raises(NotBooked, match="nothing is held"):
        handle(sacco.ledger, back.reversed())


def test_a_return_from_another_members_savings_is_not_booked(sacco: SaccoUnderTest) -> None:
    other = SaccoUnderTest(ledger=sacco.ledger).register().fund(1_000)
    receipt = sacco.receipt(1_000)
    receipt.allocate()
    with pytest.raises(NotBooked, match="was allocated to"):
        handle(sacco.ledger, receipt.returned("SAVINGS", other.member_id).approved())


def test_a_crash_between_the_row_and_the_booking_leaves_neither(sacco: SaccoUnderTest) -> None:
    receipt = sacco.receipt(1_000)
    with pytest.raises(Crash):
        handle(sacco.ledger, receipt.received(), crash=True)
    assert (receipt.state(), sacco.posted("utility")) == (None, 0)


def test_a_batch_of_receipts_of_many_members_is_booked_in_one_transaction(ledger: LedgerUnderTest) -> None:
    members = [SaccoUnderTest(ledger=ledger, short_code="777111").register() for _ in range(5)]
    receipts = [each.receipt(100 * number) for number, each in enumerate(members, 1)]
    assert len(handle(ledger, *(each.received() for each in receipts))) == 5
    answers = handle(ledger, *(each.attributed() for each in receipts))
    assert {each.state for each in answers} == {"ALLOCATED"}  # type: ignore[attr-defined]
    assert [each.posted("fosa") for each in members] == [-100, -200, -300, -400, -500]
    blocks = {row.id >> 10 for row in ledger.rows(
        "SELECT id FROM transfers WHERE step = 'post_allocation' AND saga_id = ANY(:it)",
        it=[each.saga_id for each in receipts],
    )}  # fmt: skip
    assert len(blocks) == 1
