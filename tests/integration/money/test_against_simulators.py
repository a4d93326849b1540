"""Mobile money against the simulated Daraja: both sides over real HTTP, each with its own books and its own reading."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from messages.ledger import ReturnHeld
from messages.mobile_money import PayoutPaid, ReceiptReceived, ReceiptReversed
from mobile_money.importing import File, import_file
from support.builders import a
from support.mobile_money import PHONE
from support.simulated_money import SimulatedMoney, simulated_money
from support.waiting import until

SHILLINGS = 2_500


@pytest.fixture
def both(engine: Engine, tmp_path: Path) -> Iterator[SimulatedMoney]:
    with simulated_money(engine, tmp_path) as found:
        yield found


def test_prompts_payouts_lists_reversals_and_statements_agree_with_the_providers_books(both: SimulatedMoney) -> None:
    sending, code = both.sending, both.sending.code
    both.door("POST", "float", {"short_code": code.short_code, "amount_minor": 100_000_000})
    both.door("POST", f"phones/{PHONE}", {})
    asking = both.asking()
    with sending.engine.begin() as tx:
        asking.register(tx)
        assert tx.execute(
            text("SELECT registered_at IS NOT NULL FROM pulls WHERE short_code = :code"), {"code": code.short_code}
        ).scalar_one()
    # A prompt that is paid is one receipt, by the callback and by the confirmation.
    collection = sending.of_saga(saga_type="collection")
    collection.prompt()
    collection.send()
    assert collection.prompting == "SENT"
    found = both.settled(collection, "PromptPaid")
    (received,) = [each for each in found if isinstance(each, ReceiptReceived)]
    assert (received.amount_minor, received.collection_id) == (SHILLINGS * 100, collection.saga_id)
    # A payout is paid, and its charge is the tariff's.
    sending.now = datetime.now(UTC)
    sending.pay()
    sending.send()
    assert sending.state == "SENT"
    paid = both.settled(sending, "PayoutPaid")[-1]
    assert isinstance(paid, PayoutPaid)
    assert (paid.amount_minor, paid.charge_minor) == (SHILLINGS * 100, 900)
    # A payment that the customer starts is a receipt, and a list brings nothing new.
    made = both.door(
        "POST", "pay", {"msisdn": PHONE, "short_code": code.short_code, "amount": 700, "bill_reference": "DEP00123"}
    )
    other = sending.of_saga()
    (confirmed,) = both.settled(other, "ReceiptReceived")
    assert (confirmed.receipt, confirmed.reference, confirmed.amount_minor) == (made["receipt"], "DEP00123", 70_000)
    with sending.engine.begin() as tx:
        asking.pull(tx)
        query = text("SELECT count(*) FROM receipts WHERE short_code = :code")
        assert tx.execute(query, {"code": code.short_code}).scalar_one() == 2
        query = text("SELECT count(*) FROM receipt_doors WHERE short_code = :code AND door = 'PULL' AND is_same")
        assert tx.execute(query, {"code": code.short_code}).scalar_one() == 2
    # It goes back to its payer.
    back = sending.of_saga(saga_type="return_receipt")
    back.now = datetime.now(UTC)
    back.deliver(
        a(
            ReturnHeld, saga_id=back.saga_id, saga_type="return_receipt", provider="daraja",
            short_code=code.short_code, receipt=made["receipt"], currency="KES", amount_minor=70_000,
            source="UNALLOCATED", receipt_saga_id=confirmed.saga_id,
        )
    )  # fmt: skip
    back.send()
    assert back.state_of("send_reversal") == "SENT"
    returned = both.settled(back, "ReceiptReversed")[-1]
    assert isinstance(returned, ReceiptReversed)
    assert returned.receipt == made["receipt"] != returned.reversal_receipt
    # The statement has all of it, without a gap, and nothing that is not ours.
    listed = {}
    for account in ("UTILITY", "CHARGES"):
        content = both.door("GET", f"statements/{code.short_code}/{account.lower()}").encode()
        file = File(account=account, name="day.csv", content=content, imported_by="treasurer")
        with sending.engine.begin() as tx:
            listed[account] = import_file(tx, code, file, sending.needed, now=datetime.now(UTC))
    assert [each.gaps for each in listed.values()] == [0, 0]
    assert listed["UTILITY"].rows_to_publish == (), "every door had brought it before"
    assert (listed["UTILITY"].rows, listed["UTILITY"].matched, listed["UTILITY"].listed) == (5, 4, 1), "the float"
    assert (listed["CHARGES"].rows, listed["CHARGES"].matched) == (1, 1)
    with sending.engine.begin() as tx:
        asking.balance(tx)

    def told() -> Any:
        sending.now = datetime.now(UTC)
        sending.decided()
        with sending.engine.connect() as tx:
            query = text("SELECT utility_minor, charges_minor FROM floats WHERE short_code = :code")
            return tx.execute(query, {"code": code.short_code}).one()

    row = until(told, "the balances", holds=lambda got: got.charges_minor is not None, within_s=60)
    assert (row.utility_minor, row.charges_minor) == (100_000_000, 900), "in and out are the same here"
