"""Members, mobile money, ledger and notifier together, at the simulated Daraja: what comes in and goes out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chassis.testing.service import types
from messages.contract import Message
from messages.mobile_money import ReceiptReceived
from stack import from_environment, up
from support.mobile_money import PHONE
from support.sacco_chain import SHORT_CODE, SaccoChain, sacco_chain

MEMBER = "00123"
WITHDRAWN, FEE, EXCISE = 100_000, 2_000, 300


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SaccoChain]:
    """A SACCO with one member, who has saved 5,000 shillings."""
    stack = up(from_environment(home=tmp_path_factory.mktemp("sacco chain"), only=("postgres",)))
    try:
        with sacco_chain(stack, tmp_path_factory.mktemp("daraja")) as chain:
            yield chain
    finally:
        stack.down()


@pytest.fixture(scope="module")
def saved(chain: SaccoChain) -> list[Message]:
    """Register the member, let money come, and return what its receipt led to."""
    assert "MemberAccountsOpened" in types(chain.register(MEMBER, PHONE))
    chain.money.door("POST", f"phones/{PHONE}", {})
    with chain.engines["mobile-money"].begin() as tx:
        chain.asking.register(tx)
    paid = {"msisdn": PHONE, "short_code": SHORT_CODE, "amount": 5_000, "bill_reference": f"sav-{MEMBER}"}
    chain.money.door("POST", "pay", paid)
    return chain.run(chain.other("receipt"))


def withdrawal(chain: SaccoChain, amount_minor: int) -> Message:
    return chain.request(kind="withdrawal", member_id=MEMBER, amount_minor=amount_minor)


def test_money_that_comes_is_recorded_attributed_allocated_and_told_of_once(
    chain: SaccoChain, saved: list[Message]
) -> None:
    assert types(saved) == [
        "ReceiptReceived", "ReceiptRecorded", "ReceiptAttributed", "ReceiptAllocated", "MemberNotified"
    ]  # fmt: skip
    received = saved[0]
    assert isinstance(received, ReceiptReceived)
    row = chain.row("members", "SELECT state, member_id FROM receipts WHERE saga_id = :id", id=received.saga_id)
    assert tuple(row) == ("ALLOCATED", MEMBER)
    row = chain.row("ledger", "SELECT state FROM receipt_books WHERE saga_id = :id", id=received.saga_id)
    assert row.state == "ALLOCATED"
    assert chain.texts(received.saga_id) == ["RECEIPT_ALLOCATED"]
    chain.check()


def test_a_withdrawal_is_paid_and_only_then_booked(chain: SaccoChain, saved: list[Message]) -> None:
    before = chain.posted("fosa", MEMBER)
    published = chain.run(withdrawal(chain, WITHDRAWN), "MemberNotified")
    saga_id = published[0].saga_id
    assert [each for each in types(published) if each.endswith(("Placed", "Reserved", "Paid", "Committed"))] == [
        "HoldPlaced", "FloatReserved", "PayoutPaid", "PayoutCommitted"
    ]  # fmt: skip
    assert chain.posted("fosa", MEMBER) == before - WITHDRAWN - FEE - EXCISE
    assert chain.posted("payout_in_transit", saga_id) == 0, "it went out"
    assert chain.row("members", "SELECT state FROM withdrawals WHERE withdrawal_id = :id", id=saga_id).state == "PAID"
    assert chain.texts(saga_id) == ["WITHDRAWAL_PAID"]
    chain.check()


def test_a_withdrawal_that_is_proven_to_have_failed_is_released_once(chain: SaccoChain, saved: list[Message]) -> None:
    before = chain.posted("fosa", MEMBER)
    chain.money.door("POST", f"phones/{PHONE}", {"is_registered": False})
    published = chain.run(withdrawal(chain, 2 * WITHDRAWN), "PayoutFailed")
    saga_id = published[0].saga_id
    assert chain.posted("payout_in_transit", saga_id) == 2 * WITHDRAWN, "the hold stays until the failure is proven"
    assert types(chain.reject(published)) == ["FloatReleased", "HoldReleased"]
    assert chain.posted("fosa", MEMBER) == before, "with its fee"
    assert chain.posted("payout_in_transit", saga_id) == 0
    assert chain.row("members", "SELECT state FROM withdrawals WHERE withdrawal_id = :id", id=saga_id).state == "FAILED"
    assert chain.texts(saga_id) == ["WITHDRAWAL_FAILED"]
    chain.money.door("POST", f"phones/{PHONE}", {"is_registered": True})
    chain.check()


def test_a_prompt_that_is_cancelled_and_paid_all_the_same_is_one_receipt(
    chain: SaccoChain, saved: list[Message]
) -> None:
    before = chain.posted("fosa", MEMBER)
    chain.money.door("POST", f"phones/{PHONE}", {"answer": "cancel", "paid_after_s": 5})
    asked = chain.request(kind="collection", member_id=MEMBER, amount_minor=70_000, target="SAVINGS")
    published = chain.run(asked, "PromptFailed")
    query = "SELECT state, received_minor FROM collections WHERE collection_id = :id"
    assert chain.row("members", query, id=asked.saga_id).state == "FAILED", "the screen says so"
    chain.reject(published)
    allocated = chain.run(chain.other("receipt"))
    assert types(allocated)[-2:] == ["ReceiptAllocated", "MemberNotified"]
    assert tuple(chain.row("members", query, id=asked.saga_id)) == ("PAID_LATE", 70_000)
    assert chain.posted("fosa", MEMBER) == before + 70_000
    chain.check()
