"""Merchants' payments in the ledger: what each message books, whatever comes before it, and however often it comes."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from chassis.wire.envelope import new_id
from ledger.model.merchants import InvalidMerchant, UnknownMerchant
from ledger.model.transfers import NotBooked
from messages.contract import Message
from messages.ledger import (
    BalanceRejected,
    BalanceReleased,
    BalanceReserved,
    CaptureCommitted,
    MerchantAccountsOpened,
    PaymentCommitted,
    RefundCommitted,
    RefundRejected,
    RefundReserved,
    ReleaseBalance,
    VoidCommitted,
)
from messages.merchant import MerchantRegistered
from stack import Stack
from support.builders import a
from support.ledger_steps import handle, only
from support.ledgers import LedgerUnderTest, reference, scratch_ledger
from support.merchant_bookings import CURRENCY, MerchantUnderTest, PaymentUnderTest, settlement

IN_TRANSIT = """
    SELECT code, sum(debits - credits)::bigint, sum(held_debits)::bigint, sum(held_credits)::bigint
    FROM accounts JOIN balances ON account_id = accounts.id
    WHERE code IN ('captures_in_transit', 'refunds_in_transit') GROUP BY code
    HAVING sum(debits) <> sum(credits) OR sum(held_debits) <> 0 OR sum(held_credits) <> 0
"""
OF_SAGA = "SELECT reference, kind FROM transfers WHERE saga_id = :it ORDER BY id"


@pytest.fixture
def merchant(ledger: LedgerUnderTest) -> MerchantUnderTest:
    found = MerchantUnderTest(ledger=ledger)
    found.register()
    return found


def shared(ledger: LedgerUnderTest, code: str, currency: str = CURRENCY, chart: str = "merchants") -> int:
    """Return what is posted on an account that all merchants share: a debit is positive."""
    debits, credits_, _, _ = ledger.totals().get(f"{chart}:{code}:{currency}", (0, 0, 0, 0))
    return debits - credits_


def kinds_of(ledger: LedgerUnderTest, saga_id: str) -> list[tuple[str, str]]:
    return [(row.reference.removeprefix(f"{saga_id}:"), row.kind) for row in ledger.rows(OF_SAGA, it=saga_id)]


def types(messages: list[Message]) -> list[type[Message]]:
    return [type(each) for each in messages]


def test_an_onboarding_opens_each_account_in_both_modes_and_each_currency_once(ledger: LedgerUnderTest) -> None:
    new = MerchantUnderTest(ledger=ledger)
    for _ in range(2):
        (opened,) = new.register("EUR", "JPY", "EUR")
        assert isinstance(opened, MerchantAccountsOpened)
        assert opened.accounts == 4 * 2 * 2
    paths = [
        path for (path,) in ledger.rows("SELECT path FROM accounts WHERE owner LIKE :it", it=f"{new.merchant_id}%")
    ]
    assert len(paths) == 16
    assert f"merchants:pending:{new.merchant_id}:EUR" in paths
    assert f"merchants_test:available:{new.merchant_id}-test:JPY" in paths


@pytest.mark.parametrize(("merchant_id", "currency"), [("a:b", "EUR"), ("", "EUR"), ("m1", "eur"), ("m1", "A:B")])
def test_a_merchant_whose_id_or_currency_names_no_account_is_refused(
    ledger: LedgerUnderTest, merchant_id: str, currency: str
) -> None:
    registered = a(
        MerchantRegistered, saga_type="merchant_onboarding", merchant_id=merchant_id, currencies=[currency]
    )  # fmt: skip
    with pytest.raises(InvalidMerchant, match=repr(merchant_id) if currency == "EUR" else repr(currency)):
        handle(ledger, registered)


def test_a_payment_is_held_and_then_the_merchants(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant)
    before = {code: shared(ledger, code) for code in ("gateway_receivable", "fees")}
    reserved = only(ledger, payment.validated())
    assert isinstance(reserved, BalanceReserved)
    assert (reserved.payment_id, reserved.amount_minor, payment.status()) == (payment.payment_id, 100, "RESERVED")
    assert merchant.balances() == {}
    committed = only(ledger, payment.captured())
    assert isinstance(committed, PaymentCommitted)
    assert (committed.captured_minor, payment.status()) == (100, "CAPTURED")
    assert merchant.balances() == {"pending": 97}
    assert shared(ledger, "gateway_receivable") - before["gateway_receivable"] == 100
    assert shared(ledger, "fees") - before["fees"] == -3
    assert ledger.rows(IN_TRANSIT) == []
    assert kinds_of(ledger, payment.saga_id) == [
        ("reserve_balance", "HOLD"), ("capture_or_void", "POST"), ("commit_ledger", "TRANSFER"),
    ]  # fmt: skip


@pytest.mark.parametrize("order", ["accepted captured", "captured accepted", "accepted accepted captured accepted"])
def test_a_hold_is_posted_once_whenever_the_gateways_acceptance_is_read(
    merchant: MerchantUnderTest, order: str
) -> None:
    payment = PaymentUnderTest(of=merchant)
    messages: dict[str, Message] = {"accepted": payment.accepted(), "captured": payment.captured()}
    handle(merchant.ledger, payment.validated())
    for each in order.split():
        handle(merchant.ledger, messages[each])
    assert merchant.balances() == {"pending": 97}
    assert kinds_of(merchant.ledger, payment.saga_id)[1:] == [
        ("capture_or_void", "POST"),
        ("commit_ledger", "TRANSFER"),
    ]
    assert merchant.ledger.rows(IN_TRANSIT) == []


def test_all_messages_of_a_payment_may_come_in_one_batch(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant)
    answers = handle(merchant.ledger, payment.validated(), payment.accepted(), payment.captured())
    assert types(answers) == [BalanceReserved, PaymentCommitted]
    assert merchant.balances() == {"pending": 97}


def test_between_acceptance_and_proof_the_money_is_in_transit_and_not_the_merchants(
    merchant: MerchantUnderTest,
) -> None:
    payment = PaymentUnderTest(of=merchant)
    before = shared(merchant.ledger, "captures_in_transit")
    handle(merchant.ledger, payment.validated())
    handle(merchant.ledger, payment.accepted())
    assert shared(merchant.ledger, "captures_in_transit") - before == -100
    assert (merchant.balances(), payment.status()) == ({}, "RESERVED")
    handle(merchant.ledger, payment.captured())


@pytest.mark.parametrize("given", [{"reference": None}, {"undo": True}, {"step": "authorize_gateway"}])
def test_only_an_accepted_capture_posts_a_hold(merchant: MerchantUnderTest, given: dict[str, Any]) -> None:
    payment = PaymentUnderTest(of=merchant)
    handle(merchant.ledger, payment.validated(), payment.accepted(**given))
    assert kinds_of(merchant.ledger, payment.saga_id) == [("reserve_balance", "HOLD")]
    handle(merchant.ledger, payment.release())


@pytest.mark.parametrize("is_accepted", [False, True])
def test_a_compensation_undoes_exactly_what_stands(merchant: MerchantUnderTest, is_accepted: bool) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant)
    before = shared(ledger, "gateway_receivable")
    handle(ledger, payment.validated())
    if is_accepted:
        handle(ledger, payment.accepted())
    release = payment.release()
    for undone in (True, False):
        released = only(ledger, release) if undone else handle(ledger, payment.release())[0]
        assert isinstance(released, BalanceReleased)
        assert released.undone is undone
    handle(ledger, payment.accepted())
    assert payment.status() == "FAILED"
    assert ledger.rows(IN_TRANSIT) == []
    assert shared(ledger, "gateway_receivable") == before
    undo = ("capture_or_void:undo", "CORRECTION") if is_accepted else ("reserve_balance:undo", "VOID")
    assert kinds_of(ledger, payment.saga_id)[-1] == undo


def test_a_release_before_its_hold_fences_it(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant)
    assert only(merchant.ledger, payment.release()).undone is False
    assert handle(merchant.ledger, payment.validated()) == []
    assert payment.status() is None


def test_a_capture_of_a_part_posts_a_part_and_releases_the_rest(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant)
    before = shared(ledger, "gateway_receivable")
    handle(ledger, payment.validated())
    handle(ledger, payment.captured(60))
    assert (merchant.balances(), payment.status()) == ({"pending": 57}, "CAPTURED")
    assert shared(ledger, "gateway_receivable") - before == 60
    assert ledger.rows(IN_TRANSIT) == []


def test_what_was_accepted_beyond_what_is_proven_is_taken_back(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant)
    before = shared(ledger, "gateway_receivable")
    handle(ledger, payment.validated())
    handle(ledger, payment.accepted())
    handle(ledger, payment.captured(60))
    assert merchant.balances() == {"pending": 57}
    assert shared(ledger, "gateway_receivable") - before == 60
    assert ledger.rows(IN_TRANSIT) == []


def test_a_later_capture_leaves_the_hold_until_its_own_saga(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant, capture="LATER")
    handle(ledger, payment.validated())
    assert isinstance(only(ledger, payment.captured(0)), PaymentCommitted)
    assert (payment.status(), merchant.balances()) == ("AUTHORIZED", {})
    assert ledger.rows(IN_TRANSIT) != []
    captured = payment.captured_later(40, fee_minor=2)
    assert isinstance(only(ledger, captured), CaptureCommitted)
    assert handle(ledger, captured) == []
    assert (payment.status(), merchant.balances()) == ("CAPTURED", {"pending": 38})
    assert ledger.rows(IN_TRANSIT) == []
    with pytest.raises(NotBooked, match="is resolved by"):
        handle(ledger, payment.captured_later(60))


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_later_capture_that_is_accepted_is_in_transit_and_then_the_merchants(
    merchant: MerchantUnderTest, order: tuple[int, ...]
) -> None:
    ledger, payment, saga_id = merchant.ledger, PaymentUnderTest(of=merchant, capture="LATER"), new_id()
    handle(ledger, payment.validated())
    handle(ledger, payment.captured(0))
    before = shared(ledger, "captures_in_transit")
    requested, accepted = payment.capture_requested(saga_id, 40), payment.accepted_later(saga_id)
    messages = [requested, accepted, payment.captured_later(40, fee_minor=2, saga_id=saga_id)]
    for number, index in enumerate(order):
        handle(ledger, messages[index])
        if number == 1 and messages[order[2]] is messages[2]:
            assert (merchant.balances(), shared(ledger, "captures_in_transit") - before) == ({}, -40)
    for again in (requested, accepted):
        handle(ledger, again)
    assert (payment.status(), merchant.balances()) == ("CAPTURED", {"pending": 38})
    assert shared(ledger, "captures_in_transit") == before
    assert ledger.rows(IN_TRANSIT) == []


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_later_capture_that_is_accepted_and_fails_leaves_the_hold_for_another_one(
    merchant: MerchantUnderTest, order: tuple[int, ...]
) -> None:
    ledger, payment, saga_id = merchant.ledger, PaymentUnderTest(of=merchant, capture="LATER"), new_id()
    handle(ledger, payment.validated())
    handle(ledger, payment.captured(0))
    before = shared(ledger, "captures_in_transit")
    messages = [
        payment.capture_requested(saga_id, 40),
        payment.accepted_later(saga_id),
        payment.failed_later(saga_id),
    ]
    for index in (*order, *order):
        handle(ledger, messages[index])
    assert (payment.status(), shared(ledger, "captures_in_transit")) == ("AUTHORIZED", before)
    second = new_id()
    handle(ledger, payment.capture_requested(second, 60))
    handle(ledger, payment.accepted_later(second))
    handle(ledger, payment.captured_later(60, fee_minor=2, saga_id=second))
    assert (payment.status(), merchant.balances()) == ("CAPTURED", {"pending": 58})
    assert shared(ledger, "captures_in_transit") == before
    assert ledger.rows(IN_TRANSIT) == []


def test_a_payment_whose_later_capture_failed_may_be_voided(merchant: MerchantUnderTest) -> None:
    ledger, payment, saga_id = merchant.ledger, PaymentUnderTest(of=merchant, capture="LATER"), new_id()
    handle(ledger, payment.validated())
    handle(ledger, payment.captured(0))
    before = shared(ledger, "captures_in_transit")
    handle(ledger, payment.capture_requested(saga_id, 40))
    handle(ledger, payment.accepted_later(saga_id))
    handle(ledger, payment.failed_later(saga_id))
    assert isinstance(only(ledger, payment.voided()), VoidCommitted)
    assert (payment.status(), shared(ledger, "captures_in_transit")) == ("VOIDED", before)
    assert ledger.rows(IN_TRANSIT) == []


def test_a_payment_that_its_merchant_voids_is_released(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant, capture="LATER")
    handle(ledger, payment.validated())
    handle(ledger, payment.captured(0))
    assert isinstance(only(ledger, payment.voided()), VoidCommitted)
    assert (payment.status(), merchant.balances()) == ("VOIDED", {})
    assert ledger.rows(IN_TRANSIT) == []
    with pytest.raises(NotBooked, match="is resolved by"):
        handle(ledger, payment.captured_later(60))


@pytest.mark.parametrize("captured_minor", [-1, 0, 101])
def test_a_capture_of_nothing_or_of_more_than_was_authorized_is_not_booked(
    merchant: MerchantUnderTest, captured_minor: int
) -> None:
    payment = PaymentUnderTest(of=merchant)
    handle(merchant.ledger, payment.validated())
    with pytest.raises(NotBooked, match="captured"):
        handle(merchant.ledger, payment.captured(captured_minor))
    handle(merchant.ledger, payment.release())


@pytest.mark.parametrize(("amount_minor", "fee_minor"), [(0, 0), (-100, 0), (2**63 - 1, -1)])
def test_a_payment_of_nothing_or_less_is_rejected(
    merchant: MerchantUnderTest, amount_minor: int, fee_minor: int
) -> None:
    payment = PaymentUnderTest(of=merchant, amount_minor=amount_minor, fee_minor=fee_minor)
    rejected = only(merchant.ledger, payment.validated())
    assert isinstance(rejected, BalanceRejected)
    assert (rejected.reason, rejected.payment_id) == ("amount_out_of_range", payment.payment_id)
    assert payment.status() is None


@pytest.mark.parametrize(
    ("amount_minor", "currency"), [(2**31 + 7, "EUR"), (10**15, "IDR"), (500, "JPY"), (1_234, "BHD")]
)
def test_amounts_are_whole_minor_units_of_any_size_and_currency(
    ledger: LedgerUnderTest, amount_minor: int, currency: str
) -> None:
    merchant = MerchantUnderTest(ledger=ledger)
    merchant.register(currency)
    payment = PaymentUnderTest(of=merchant, amount_minor=amount_minor, currency=currency).commit()
    assert merchant.balances(currency) == {"pending": amount_minor - 3}
    payment.refund(amount_minor).commit()
    assert merchant.balances(currency) == {"receivable": 3}


def test_a_payment_of_a_merchant_without_accounts_waits_for_a_person_before_anything_is_charged(
    ledger: LedgerUnderTest,
) -> None:
    payment = PaymentUnderTest(of=MerchantUnderTest(ledger=ledger))
    with pytest.raises(UnknownMerchant, match="register the merchant"):
        handle(ledger, payment.validated())


def test_a_payment_number_that_is_taken_is_not_booked(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant).commit()
    other = PaymentUnderTest(of=merchant, payment_id=payment.payment_id)
    with pytest.raises(NotBooked, match="PAYMENT_CONFLICT"):
        handle(merchant.ledger, other.validated())


def test_test_mode_has_books_of_its_own(ledger: LedgerUnderTest) -> None:
    live = MerchantUnderTest(ledger=ledger)
    live.register()
    trying = MerchantUnderTest(ledger=ledger, merchant_id=live.merchant_id, is_live=False)
    before = shared(ledger, "gateway_receivable")
    PaymentUnderTest(of=trying).commit()
    assert (live.balances(), trying.balances()) == ({}, {"pending": 97})
    assert shared(ledger, "gateway_receivable") == before


def test_two_refunds_of_60_on_100_at_once_are_one_refund(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant).commit()
    answers = handle(merchant.ledger, *(payment.refund(60).requested() for _ in range(2)))
    assert types(answers) == [RefundReserved, RefundRejected]
    assert isinstance(answers[1], RefundRejected)
    assert answers[1].reason == "captured_exceeded"
    assert merchant.held() == {"pending": 60}
    handle(merchant.ledger, a(ReleaseBalance, saga_id=answers[0].saga_id, saga_type="refund"))
    assert merchant.held() == {}


def test_refunds_are_held_and_committed_until_all_is_refunded(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant).commit()
    first, second = payment.refund(40), payment.refund(60)
    assert types(handle(ledger, first.requested(), second.requested())) == [RefundReserved, RefundReserved]
    assert merchant.held() == {"pending": 97, "receivable": 3}
    assert isinstance(only(ledger, first.refunded()), RefundCommitted)
    assert payment.status() == "PARTLY_REFUNDED"
    handle(ledger, second.refunded())
    assert (payment.status(), merchant.balances(), merchant.held()) == ("REFUNDED", {"receivable": 3}, {})
    assert ledger.rows(IN_TRANSIT) == []
    assert isinstance(only(ledger, payment.refund(1).requested()), RefundRejected)


def test_a_refund_takes_what_is_available_before_what_is_pending(merchant: MerchantUnderTest) -> None:
    ledger = merchant.ledger
    first, _second = PaymentUnderTest(of=merchant).commit(), PaymentUnderTest(of=merchant).commit()
    handle(ledger, settlement((merchant, 50), paid_minor=50, cost_minor=0))
    assert merchant.balances() == {"pending": 144, "available": 50}
    first.refund(100).commit()
    assert merchant.balances() == {"pending": 94}


def test_a_refund_that_the_gateway_refuses_is_released_and_may_be_repeated(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant).commit()
    refused = payment.refund(100)
    handle(ledger, refused.requested())
    assert only(ledger, refused.release()).undone is True
    assert (payment.status(), merchant.balances(), merchant.held()) == ("CAPTURED", {"pending": 97}, {})
    payment.refund(100).commit()
    assert payment.status() == "REFUNDED"


@pytest.mark.parametrize("refund_minor", [0, -5])
def test_a_refund_of_nothing_or_less_is_rejected(merchant: MerchantUnderTest, refund_minor: int) -> None:
    payment = PaymentUnderTest(of=merchant).commit()
    rejected = only(merchant.ledger, payment.refund(refund_minor).requested())
    assert isinstance(rejected, RefundRejected)
    assert rejected.reason == "amount_out_of_range"


def test_what_is_not_captured_is_not_refunded(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant)
    for reserve in (False, True):
        if reserve:
            handle(merchant.ledger, payment.validated())
        rejected = only(merchant.ledger, payment.refund(10).requested())
        assert isinstance(rejected, RefundRejected)
        assert rejected.reason == "payment_not_captured"
    handle(merchant.ledger, payment.release())


def test_the_refund_of_another_merchants_payment_is_not_booked(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant).commit()
    stranger = MerchantUnderTest(ledger=merchant.ledger)
    stranger.register()
    other = PaymentUnderTest(of=stranger, payment_id=payment.payment_id)
    with pytest.raises(NotBooked, match=f"is of {merchant.merchant_id}"):
        handle(merchant.ledger, other.refund(10).requested())


def test_a_capture_that_fails_days_later_is_taken_back_with_its_fee(merchant: MerchantUnderTest) -> None:
    ledger = merchant.ledger
    fees, gateway = shared(ledger, "fees"), shared(ledger, "gateway_receivable")
    payment = PaymentUnderTest(of=merchant).commit()
    handle(ledger, settlement((merchant, 90), paid_minor=90, cost_minor=0))
    handle(ledger, payment.reversal("CAPTURE_FAILED"))
    assert (payment.status(), merchant.balances()) == ("FAILED", {})
    assert shared(ledger, "fees") == fees
    assert shared(ledger, "gateway_receivable") == gateway - 90


def test_a_capture_that_fails_after_its_money_was_spent_is_owed(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant).commit()
    payment.refund(40).commit()
    handle(ledger, payment.reversal("CAPTURE_FAILED"))
    assert (payment.status(), merchant.balances()) == ("FAILED", {"receivable": 40})


def test_a_reversal_that_is_read_before_its_capture_comes_again(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant)
    handle(ledger, payment.validated())
    failed = payment.reversal("CAPTURE_FAILED")
    with pytest.raises(NotBooked, match="0 are captured"):
        handle(ledger, failed)
    handle(ledger, payment.captured())
    handle(ledger, failed)
    assert handle(ledger, failed) == []
    assert (payment.status(), merchant.balances()) == ("FAILED", {})


def test_a_refund_that_fails_later_goes_back_to_the_merchant_once(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant).commit()
    refund = payment.refund(100).commit()
    handle(ledger, refund.failed())
    assert (payment.status(), merchant.balances()) == ("CAPTURED", {"available": 97})
    with pytest.raises(NotBooked, match="not committed here"):
        handle(ledger, refund.failed())


def test_an_authorization_that_expires_is_released(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant, capture="LATER")
    handle(ledger, payment.validated())
    with pytest.raises(NotBooked, match="still under way"):
        handle(ledger, payment.reversal("AUTHORIZATION_EXPIRED"))
    handle(ledger, payment.captured(0))
    handle(ledger, payment.reversal("AUTHORIZATION_EXPIRED"))
    assert (payment.status(), merchant.balances()) == ("VOIDED", {})
    assert ledger.rows(IN_TRANSIT) == []
    handle(ledger, payment.voided())
    assert payment.status() == "VOIDED"


def test_of_a_captured_payment_nothing_expires(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant).commit()
    handle(merchant.ledger, payment.reversal("AUTHORIZATION_EXPIRED"))
    assert (payment.status(), merchant.balances()) == ("CAPTURED", {"pending": 97})


def test_two_disputes_of_one_payment_stay_apart(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant).commit()
    one, two = (f"dp_{reference()}" for _ in range(2))
    for name in (one, two):
        handle(ledger, payment.reversal("DISPUTED", 40, gateway_reference=name))
    assert (payment.status(), merchant.balances()) == ("DISPUTED", {"pending": 97, "receivable": 80})
    handle(ledger, payment.reversal("DISPUTE_LOST", 40, gateway_reference=one))
    with pytest.raises(NotBooked, match="not open here"):
        handle(ledger, payment.reversal("DISPUTE_WON", 40, gateway_reference=one))
    handle(ledger, payment.reversal("DISPUTE_WON", 40, gateway_reference=two))
    assert (payment.status(), merchant.balances()) == ("DISPUTED", {"pending": 97, "receivable": 40})
    assert isinstance(only(ledger, payment.refund(61).requested()), RefundRejected)
    payment.refund(60).commit()
    assert payment.status() == "DISPUTED"


def test_a_dispute_that_is_won_leaves_nothing_behind(merchant: MerchantUnderTest) -> None:
    ledger, payment = merchant.ledger, PaymentUnderTest(of=merchant).commit()
    name = f"dp_{reference()}"
    won = payment.reversal("DISPUTE_WON", gateway_reference=name)
    with pytest.raises(NotBooked, match="not open here"):
        handle(ledger, won)
    handle(ledger, payment.reversal("DISPUTED", gateway_reference=name))
    handle(ledger, won)
    assert (payment.status(), merchant.balances()) == ("CAPTURED", {"pending": 97})


def test_a_settlement_books_the_bank_the_costs_and_each_merchants_release(merchant: MerchantUnderTest) -> None:
    ledger, other = merchant.ledger, MerchantUnderTest(ledger=merchant.ledger)
    other.register()
    before = {code: shared(ledger, code) for code in ("bank", "gateway_costs", "gateway_receivable")}
    PaymentUnderTest(of=merchant).commit()
    PaymentUnderTest(of=other).commit()
    settled = settlement((merchant, 97), (other, 90), (other, 7), paid_minor=195, cost_minor=5)
    handle(ledger, settled)
    assert handle(ledger, settled) == []
    assert merchant.balances() == other.balances() == {"available": 97}
    moved = {code: shared(ledger, code) - amount for code, amount in before.items()}
    assert moved == {"bank": 195, "gateway_costs": 5, "gateway_receivable": 0}


def test_a_settlement_releases_no_more_than_is_pending(merchant: MerchantUnderTest) -> None:
    payment = PaymentUnderTest(of=merchant).commit()
    payment.refund(50).commit()
    handle(merchant.ledger, settlement((merchant, 97), paid_minor=97, cost_minor=3))
    assert merchant.balances() == {"available": 47}
    handle(merchant.ledger, settlement((merchant, -50), paid_minor=-50, cost_minor=0))
    assert merchant.balances() == {"available": 47}


def test_a_settlement_of_an_unknown_merchant_is_not_booked(ledger: LedgerUnderTest) -> None:
    stranger = MerchantUnderTest(ledger=ledger)
    with pytest.raises(NotBooked, match=f"No account merchants:pending:{stranger.merchant_id}:EUR"):
        handle(ledger, settlement((stranger, 97), paid_minor=97, cost_minor=3))


def test_a_settlement_of_nothing_is_posted_without_entries(ledger: LedgerUnderTest) -> None:
    settled = settlement(paid_minor=0, cost_minor=0)
    handle(ledger, settled)
    assert kinds_of(ledger, settled.saga_id) == []


def test_a_settlement_of_a_thousand_merchants_is_one_transfer(infrastructure: Stack) -> None:
    with scratch_ledger(infrastructure) as ledger:
        merchants = [MerchantUnderTest(ledger=ledger) for _ in range(1_000)]
        handle(ledger, *(each.registered() for each in merchants))
        handle(ledger, *(PaymentUnderTest(of=each).validated() for each in merchants[:2]))
        settled = settlement(*((each, 97) for each in merchants), paid_minor=97_000, cost_minor=0)
        handle(ledger, settled)
        assert kinds_of(ledger, settled.saga_id) == [("post_settlement", "TRANSFER")]
