"""Money that comes in: one receipt is one credit over all doors, and a prompt's end never closes the door of money."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from chassis.testing.service import types
from messages.mobile_money import PromptFailed, PromptPaid, ReceiptReceived
from messages.saga import ReceiptFailed
from mobile_money import receipts
from mobile_money.asking import Asking
from mobile_money.deciding import decide
from mobile_money.intake import take_in
from mobile_money.receipts import Arrival, Door
from support.builders import a
from support.gateway_stub import Answer, GatewayStub
from support.mobile_money import (
    LOST,
    PUSH_PATH,
    STATUS_PATH,
    DarajaBooks,
    Sending,
    confirmation,
    ended_prompt,
    paid_prompt,
    receipt,
    status,
)


def pulled(sending: Sending) -> list[ReceiptReceived]:
    """List the payments as the task does, and return the receipts that are published."""
    asking = Asking(sending.code, sending.providers, sending.needed, lambda: sending.now)
    with sending.engine.begin() as tx:
        asking.pull(tx)
        rows = tx.execute(text("DELETE FROM outbox WHERE type LIKE '%ReceiptReceived' RETURNING payload")).scalars()
        found = [sending.codec.decode(bytes(row)) for row in rows]
    received = [each for each in found if isinstance(each, ReceiptReceived)]
    return [each for each in received if each.short_code == sending.code.short_code]


def listed(number: str, *, reference: str = "", amount: object = "2500") -> dict[str, object]:
    return {
        "transactionId": number, "trxDate": "2026-11-29T12:00:30Z", "msisdn": 254712345678, "sender": "MPESA",
        "transactiontype": "c2b-pay-bill-debit", "billreference": reference, "amount": amount, "organizationname": "B",
    }  # fmt: skip


def test_a_prompt_that_is_paid_is_a_receipt_with_its_collection(sending: Sending, books: DarajaBooks) -> None:
    sending.prompt()
    sending.send()
    (pushed,) = books.of(PUSH_PATH)
    assert (pushed["PhoneNumber"], pushed["Amount"], pushed["AccountReference"]) == (
        254712345678, 2_500, sending.reference,
    )  # fmt: skip
    number = receipt()
    received, paid = sending.callback("stk", paid_prompt(sending.checkout(), number, amount="2500.00"))
    assert isinstance(received, ReceiptReceived)
    assert isinstance(paid, PromptPaid)
    assert (received.receipt, received.amount_minor, received.door) == (number, 250_000, "CALLBACK")
    assert (received.collection_id, received.reference) == (sending.saga_id, sending.reference)
    assert (paid.receipt, sending.row("prompts").state) == (number, "PAID")


@pytest.mark.parametrize("is_confirmed_first", [True, False])
def test_a_callback_and_a_confirmation_of_one_receipt_are_one_credit(
    sending: Sending, is_confirmed_first: bool
) -> None:
    sending.prompt()
    sending.send()
    number = receipt()
    bodies = [
        ("stk", paid_prompt(sending.checkout(), number)),
        ("c2b-confirmation", confirmation(sending.code.short_code, number, reference=sending.reference)),
    ]
    for kind, body in reversed(bodies) if is_confirmed_first else bodies:
        sending.take(kind, body)
    found = sending.decided()
    assert [(each.receipt, each.collection_id) for each in found] == [(number, sending.saga_id)]
    assert types(sending.decide()) == ["PromptPaid"]
    assert len(sending.receipts()) == 1


def test_the_same_receipt_at_once_in_many_processes_is_one_credit(sending: Sending, engine: Engine) -> None:
    number = receipt()
    body = confirmation(sending.code.short_code, number, reference="DEP00123")
    for _ in range(20):
        sending.take("c2b-confirmation", body)

    def run(_: int) -> int:
        with engine.begin() as tx:
            decisions = decide(tx, sending.needed, now=sending.now, limit=3)
            return 0 if decisions is None else len(decisions.rows)

    with ThreadPoolExecutor(max_workers=4) as pool:
        published = sum(pool.map(run, range(20)))
    assert (published, len(sending.receipts())) == (1, 1)
    assert set(sending.fates()) <= {"APPLIED", "DUPLICATE"}


@pytest.mark.parametrize("code", [1032, 1, 2001, "1"])
def test_a_prompt_that_was_not_paid_fails_and_a_later_payment_is_credited_all_the_same(
    sending: Sending, code: object
) -> None:
    sending.prompt()
    sending.send()
    (failed,) = sending.callback("stk", ended_prompt(sending.checkout(), code))
    assert isinstance(failed, PromptFailed)
    (received,) = sending.callback("stk", paid_prompt(sending.checkout(), receipt()))
    assert isinstance(received, ReceiptReceived)
    assert received.collection_id == sending.saga_id
    assert sending.fates() == ["APPLIED", "LATE"], "no contradiction: its money is a receipt"


@pytest.mark.parametrize("code", [1037, 1019, "1037", 17, 26, 4711])
def test_a_code_of_a_prompt_that_is_uncertain_settles_nothing(sending: Sending, code: object) -> None:
    sending.prompt()
    sending.send()
    assert sending.callback("stk", ended_prompt(sending.checkout(), code)) == []
    assert (sending.prompting, sending.row("prompts").state) == ("SENT", "REQUESTED")


def test_a_query_that_is_still_in_process_is_no_failure_and_a_pull_decides(
    sending: Sending, stub: GatewayStub, books: DarajaBooks
) -> None:
    sending.prompt()
    sending.send()
    busy = Answer(status=500, body={"errorCode": "500.001.1001", "errorMessage": "The transaction is being processed"})
    stub.answer = lambda got: busy if "stkpushquery" in got.path else books.answer(got)
    for seconds in (60, 130, 250, 500, 910):
        assert sending.wait(seconds) == []
        if sending.calls:
            sending.call()
    assert sending.prompting == "SENT"
    number = receipt()
    books.listed.append(listed(number, reference=sending.reference.lower()))
    (received,) = pulled(sending)
    assert (received.receipt, received.door, received.collection_id) == (number, "PULL", sending.saga_id)
    assert types(sending.decide()) == ["PromptPaid"]


def test_a_query_after_the_prompts_life_ends_it_where_no_answer_came_from_the_phone(
    sending: Sending, stub: GatewayStub, books: DarajaBooks
) -> None:
    sending.prompt()
    sending.send()
    with sending.engine.begin() as tx:
        values = {"id": sending.saga_id, "now": sending.now}
        tx.execute(text("UPDATE prompts SET requested_at = :now WHERE saga_id = :id"), values)
    told = Answer(body={"ResponseCode": "0", "ResultCode": "1037", "ResultDesc": "DS timeout"})
    stub.answer = lambda got: told if "stkpushquery" in got.path else books.answer(got)
    sending.wait(50)
    assert sending.call() == [], "the phone may still answer"
    sending.wait(130)
    (failed,) = sending.call()
    assert isinstance(failed, PromptFailed)
    assert failed.reason == "not_reached"


def test_a_lost_answer_to_a_push_is_never_a_second_prompt(
    sending: Sending, stub: GatewayStub, books: DarajaBooks
) -> None:
    sending.prompt()
    stub.scripted += [Answer(body={"access_token": "t", "expires_in": 3599}), LOST]
    sending.send()
    for seconds in (10, 60, 200, 500, 1_000, 4_000):
        sending.wait(seconds)
        if sending.calls:
            sending.call()
    assert [line for line in stub.lines if PUSH_PATH in line] == [f"POST {PUSH_PATH}"]
    body = confirmation(sending.code.short_code, receipt(), reference=sending.reference)
    received, paid = sending.callback("c2b-confirmation", body)
    assert types([received, paid]) == ["ReceiptReceived", "PromptPaid"], "its reference links it"


def test_a_callback_before_the_answer_waits_for_its_prompt(sending: Sending) -> None:
    sending.prompt()
    sending.acknowledge()
    sending.call()
    checkout = sending.checkout()
    with sending.engine.begin() as tx:
        tx.execute(text("UPDATE attempts SET provider_id = NULL WHERE saga_id = :id"), {"id": sending.saga_id})
    early = sending.take("stk", paid_prompt(checkout, receipt()))
    assert sending.decided() == []
    assert sending.fate(early).fate == "ORPHAN"
    with sending.engine.begin() as tx:
        values = {"id": sending.saga_id, "provider_id": f"daraja:{checkout}"}
        tx.execute(text("UPDATE attempts SET provider_id = :provider_id WHERE saga_id = :id"), values)
    sending.wait(2)
    (received,) = sending.decided()
    assert received.collection_id == sending.saga_id


def test_money_whose_prompt_never_becomes_known_is_a_receipt_without_it(sending: Sending) -> None:
    sending.take("stk", paid_prompt("ws_CO_nobody", receipt()))
    found = sending.decided()
    for seconds in (2, 6, 31, 301):
        sending.wait(seconds)
        found += sending.decided()
    assert [each.collection_id for each in found] == [None]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", b"{}", b'{"Body":{}}', b'{"Body":{"stkCallback":[]}}', b"\xff"]
)
def test_a_body_of_another_form_is_stored_and_listed(sending: Sending, body: bytes) -> None:
    callback = sending.take("stk", body)
    assert sending.decided() == []
    assert sending.fate(callback).fate == "REFUSED"
    assert sending.fate(callback).reason.startswith("unreadable")


def test_a_forged_or_replayed_success_credits_nothing_and_is_listed(sending: Sending) -> None:
    sending.prompt()
    sending.send()
    number = receipt()
    for body in (
        paid_prompt(sending.checkout(), number, amount=2_501),
        paid_prompt(sending.checkout(), number, phone=254_700_000_001),
        paid_prompt(sending.checkout(), "ABC", amount=2_500),
        paid_prompt(sending.checkout(), number, amount="2500.50"),
    ):
        assert sending.callback("stk", body) == []
    elsewhere = confirmation("999999", number, reference="DEP00123")
    assert sending.callback("c2b-confirmation", elsewhere) == []
    assert (sending.fates(), sending.receipts(), sending.prompting) == (["REFUSED"] * 5, [], "SENT")


def test_a_receipt_with_another_amount_than_before_credits_nothing_more(sending: Sending) -> None:
    number, code = receipt(), sending.code.short_code
    assert len(sending.callback("c2b-confirmation", confirmation(code, number, reference="DEP00123"))) == 1
    other = confirmation(code, number, reference="DEP00123", amount="9000.00")
    assert sending.callback("c2b-confirmation", other) == []
    assert sending.fates() == ["APPLIED", "REFUSED"]
    assert [each.amount_minor for each in sending.receipts()] == [250_000]


def test_a_large_receipt_counts_once_the_provider_confirms_it(sending: Sending, books: DarajaBooks) -> None:
    sending.code = sending.code.model_copy(update={"confirm_from_minor": 100_000})
    sending.restart()
    number = receipt()
    body = confirmation(sending.code.short_code, number, reference="DEP00123")
    assert sending.callback("c2b-confirmation", body) == []
    assert [each.state for each in sending.receipts()] == ["UNCONFIRMED"]
    asking = Asking(sending.code, sending.providers, sending.needed, lambda: sending.now)
    with sending.engine.begin() as tx:
        asking.confirm(tx)
    (asked,) = books.of(STATUS_PATH)
    assert asked["TransactionID"] == number
    with sending.engine.connect() as tx:
        query = text("SELECT question_id FROM questions WHERE receipt = :receipt")
        conversation = tx.execute(query, {"receipt": number}).scalar_one()
    other = status(conversation, TransactionStatus="Completed", ReceiptNo=number, Amount="1.00")
    assert sending.callback("status", other) == [], "another amount confirms nothing"
    told = status(conversation, TransactionStatus="Completed", ReceiptNo=number, Amount="2500.00")
    (received,) = sending.callback("status", told)
    assert isinstance(received, ReceiptReceived)
    assert (received.receipt, received.reference, received.door) == (number, "DEP00123", "CONFIRMATION")


def test_a_callback_from_an_address_that_is_not_the_providers_decides_nothing_about_a_payout(sending: Sending) -> None:
    sending.code = sending.code.model_copy(update={"callbacks_from": ("196.201.214.200",)})
    sending.restart()
    number = receipt()
    body = confirmation(sending.code.short_code, number, reference="DEP00123")
    assert sending.callback("c2b-confirmation", body, remote="10.0.0.1") == []
    assert [each.state for each in sending.receipts()] == ["UNCONFIRMED"]


def test_no_callback_ever_and_the_pull_brings_it_once(sending: Sending, books: DarajaBooks) -> None:
    number = receipt()
    books.listed.append(listed(number, reference="DEP00123"))
    assert [each.door for each in pulled(sending)] == ["PULL"]
    assert pulled(sending) == []
    late = confirmation(sending.code.short_code, number, reference="DEP00123")
    assert sending.callback("c2b-confirmation", late) == []
    with sending.engine.connect() as tx:
        query = text("SELECT door FROM receipt_doors WHERE receipt = :receipt ORDER BY door")
        assert list(tx.execute(query, {"receipt": number}).scalars()) == ["CONFIRMATION", "PULL"]


def test_a_payer_is_hashed_the_same_whether_the_phone_is_clear_or_hashed(sending: Sending, books: DarajaBooks) -> None:
    clear, hashed = receipt(), receipt()
    books.listed.append(listed(clear))
    (first,) = pulled(sending)
    (second,) = sending.callback("c2b-confirmation", confirmation(sending.code.short_code, hashed, reference="x"))
    assert first.payer_hash is not None
    assert isinstance(second, ReceiptReceived)
    assert first.payer_hash == second.payer_hash


def test_a_receipt_whose_saga_was_stopped_is_listed_and_started_again_under_a_new_id(sending: Sending) -> None:
    body = confirmation(sending.code.short_code, receipt(), reference="DEP00123")
    (first,) = sending.callback("c2b-confirmation", body)
    other = replace(sending, saga_id=first.saga_id, calls=[], published=[], letters=[], read=[])
    other.deliver(a(ReceiptFailed, saga_id=first.saga_id, saga_type="receipt"))
    (row,) = sending.receipts()
    assert row.state == "FAILED"
    with sending.engine.begin() as tx:
        rows = receipts.reopen(tx, row, sending.codec, now=sending.now)
        assert receipts.reopen(tx, row, sending.codec, now=sending.now) == [], "once"
    (again,) = sending.read_rows(rows)
    assert again.saga_id != first.saga_id
    assert (again.receipt, again.amount_minor) == (row.receipt, row.amount_minor)


def test_a_receipt_by_a_clerk_credits_nothing_until_the_provider_confirms_it(
    sending: Sending, books: DarajaBooks
) -> None:
    number = receipt()
    arrival = Arrival(
        provider="daraja", short_code=sending.code.short_code, receipt=number, currency="KES", amount_minor=250_000,
        completed_at=sending.now, door=Door.CLERK, source_id="teller-1", is_confirmed=False, received_at=sending.now,
    )  # fmt: skip
    with sending.engine.begin() as tx:
        assert take_in(tx, [arrival], sending.codec, now=sending.now).rows == []
    books.listed.append(listed(number))
    (received,) = pulled(sending)
    assert received.door == "CLERK"


def test_one_callback_that_cannot_be_read_harms_no_other_one(sending: Sending) -> None:
    callback = sending.take("stk", b'{"Body": ' + b"[" * 500 + b"]" * 500 + b"}")
    good = confirmation(sending.code.short_code, receipt(), reference="DEP00123")
    assert len(sending.callback("c2b-confirmation", good)) == 1
    assert sending.fate(callback).fate == "REFUSED"
