"""Mobile money against the simulated MoMo: both sides over real HTTP, each with its own books and its own reading."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from chassis.http.downstream import Unavailable
from chassis.saga.answers import Accepted, Proven
from chassis.saga.attempts import Outcome
from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from chassis.wire.envelope import new_id
from messages.ledger import ReturnHeld
from messages.members import DividendWaveRequested
from messages.mobile_money import PayoutPaid, ReceiptReceived, ReceiptReversed, WaveRefused, WaveReserved
from mobile_money.port import Payout
from mobile_money.readings import reference_of
from support.builders import a
from support.mobile_money import PHONE, Sending
from support.simulated_money import SimulatedMoney, simulated_money
from support.waiting import until

AMOUNT_MINOR, FLOAT_MINOR = 250_000, 100_000_000


@pytest.fixture
def both(engine: Engine, tmp_path: Path) -> Iterator[SimulatedMoney]:
    with simulated_money(engine, tmp_path, provider="momo") as found:
        found.door("POST", f"phones/{PHONE}", {})
        yield found


def topped_up(both: SimulatedMoney, amount_minor: int = FLOAT_MINOR) -> Sending:
    both.door("POST", "float", {"short_code": both.sending.code.short_code, "amount_minor": amount_minor})
    return both.sending


def faulty(both: SimulatedMoney, operation: str, kind: str, **more: Any) -> None:
    both.door("POST", "admin/faults", {"operation": operation, "kind": kind, "times": 1, **more})


def own(sending: Sending, step: str = "send_payout", number: int = 1) -> str:
    return reference_of(f"{sending.saga_id}:{step}" if number == 1 else f"{sending.saga_id}:{step}:{number}")


def utility(both: SimulatedMoney) -> int:
    """Return what the provider's books have for us."""
    balances = both.door("GET", "books")["balances"]
    return int(balances[f"{both.sending.code.short_code}:utility"])


def callbacks(both: SimulatedMoney, about: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = both.door("GET", f"admin/callbacks?about={about}")["callbacks"]
    return found


def known(sending: Sending, own_id: str) -> list[str]:
    """Return what became of our copies of the callbacks and answers that name this id."""
    with sending.engine.connect() as tx:
        query = text("SELECT fate FROM raw_callbacks WHERE name = :name AND convert_from(body, 'UTF8') LIKE :id")
        return list(tx.execute(query, {"name": sending.code.name, "id": f"%{own_id}%"}).scalars())


def test_a_prompt_that_is_paid_is_one_receipt_by_its_one_callback_and_goes_back_once(both: SimulatedMoney) -> None:
    collection = topped_up(both).of_saga(saga_type="collection")
    collection.prompt()
    collection.send()
    assert collection.prompting == "SENT"
    found = both.settled(collection, "PromptPaid")
    (received,) = [each for each in found if isinstance(each, ReceiptReceived)]
    assert (received.amount_minor, received.collection_id) == (AMOUNT_MINOR, collection.saga_id)
    assert utility(both) == FLOAT_MINOR + AMOUNT_MINOR
    assert len(callbacks(both, own(collection, "send_prompt"))) == 1
    back = collection.of_saga(saga_type="return_receipt")
    back.deliver(
        a(
            ReturnHeld, saga_id=back.saga_id, saga_type="return_receipt", provider="momo",
            short_code=back.code.short_code, receipt=received.receipt, currency="KES", amount_minor=AMOUNT_MINOR,
            source="UNALLOCATED", receipt_saga_id=received.saga_id,
        )
    )  # fmt: skip
    back.send()
    assert back.state_of("send_reversal") == "SENT"
    returned = both.settled(back, "ReceiptReversed")[-1]
    assert isinstance(returned, ReceiptReversed)
    assert returned.receipt == received.receipt != returned.reversal_receipt
    assert utility(both) == FLOAT_MINOR


def test_a_payout_is_taken_with_202_and_a_repeat_of_it_is_a_409_and_one_payment(both: SimulatedMoney) -> None:
    sending = topped_up(both)
    sending.pay()
    sending.send()
    assert sending.state == "SENT"
    (paid,) = [each for each in both.settled(sending, "PayoutPaid") if isinstance(each, PayoutPaid)]
    assert paid.amount_minor == AMOUNT_MINOR
    assert utility(both) == FLOAT_MINOR - AMOUNT_MINOR
    request = Payout(
        short_code=sending.code.short_code, phone=PHONE, amount_minor=AMOUNT_MINOR, currency="KES", lane="MEMBERS"
    )
    key = f"{sending.saga_id}:send_payout"
    assert sending.providers.send(request, key) == Accepted(reference=own(sending)), "a conflict is an arrival"
    with pytest.raises(Unavailable, match="decided about as a callback"):
        sending.providers.query(request, key, None)
    assert sending.decided() == []
    assert sending.decide() == [], "its status says what its callback has said"
    assert known(sending, own(sending)) == ["APPLIED", "APPLIED"]
    assert len(callbacks(both, own(sending))) == 1
    assert utility(both) == FLOAT_MINOR - AMOUNT_MINOR, "paid once"


def test_a_payout_whose_answer_and_callback_are_lost_is_paid_by_its_status(both: SimulatedMoney) -> None:
    sending = topped_up(both)
    faulty(both, "transfer", "answer_lost")
    faulty(both, "transfer", "lost")
    sending.pay()
    sending.send()
    until(lambda: utility(both), "it is paid", holds=lambda minor: minor == FLOAT_MINOR - AMOUNT_MINOR)
    sending.wait(10)
    assert sending.state == "UNSURE"
    sending.wait(31)
    (query,) = sending.calls
    assert query.act is AwaitedAct.QUERY
    sending.call()
    paid = both.settled(sending, "PayoutPaid")[-1]
    assert isinstance(paid, PayoutPaid)
    assert paid.amount_minor == AMOUNT_MINOR
    assert utility(both) == FLOAT_MINOR - AMOUNT_MINOR


def test_a_404_proves_that_a_payout_was_never_taken_and_the_next_attempt_has_a_new_id(both: SimulatedMoney) -> None:
    sending = topped_up(both)
    faulty(both, "transfer", "error", match=own(sending))
    sending.pay()
    sending.send()
    request = Payout(
        short_code=sending.code.short_code, phone=PHONE, amount_minor=AMOUNT_MINOR, currency="KES", lane="MEMBERS"
    )
    answer = sending.providers.query(request, f"{sending.saga_id}:send_payout", None)
    assert answer == Proven(outcome=Outcome.ABSENT)
    sending.wait(10)
    sending.wait(31)
    sending.call()
    assert sending.state == "PAUSED"
    sending.wait(61)
    (call,) = sending.calls
    assert call.number == 2
    sending.send()
    assert isinstance(both.settled(sending, "PayoutPaid")[-1], PayoutPaid)
    assert (len(callbacks(both, own(sending))), len(callbacks(both, own(sending, number=2)))) == (0, 1)
    assert utility(both) == FLOAT_MINOR - AMOUNT_MINOR


def wave(sending: Sending, amount_minor: int) -> WaveReserved | WaveRefused:
    event = a(
        DividendWaveRequested, saga_id=new_id(), saga_type="dividend_wave", run_id="2025-DIV", wave=1, attempt=1,
        provider="momo", short_code=sending.code.short_code, currency="KES", amount_minor=amount_minor,
        charge_minor=0, payouts=2,
    )  # fmt: skip
    (answered,) = sending.of_saga(saga_id=event.saga_id).deliver(event)
    assert isinstance(answered, WaveReserved | WaveRefused)
    return answered


def test_its_balance_is_queried_and_waves_begin_by_it(both: SimulatedMoney) -> None:
    sending = topped_up(both)
    refused = wave(sending, AMOUNT_MINOR)
    assert isinstance(refused, WaveRefused)
    assert refused.reason == "unknown_float"

    def shown(minor: int) -> None:
        sending.now += timedelta(seconds=1)
        with sending.engine.begin() as tx:
            both.asking().balance(tx)
        assert sending.decided() == []
        with sending.engine.connect() as tx:
            query = text("SELECT utility_minor FROM floats WHERE short_code = :code")
            assert tx.execute(query, {"code": sending.code.short_code}).scalar_one() == minor

    shown(FLOAT_MINOR)
    assert types([wave(sending, AMOUNT_MINOR)]) == ["WaveReserved"]
    topped_up(both, -FLOAT_MINOR + 50)
    shown(50)
    assert types([wave(sending, AMOUNT_MINOR)]) == ["WaveRefused"]
    topped_up(both, FLOAT_MINOR - 50)
    shown(FLOAT_MINOR)  # the same balance as once before is no repetition
