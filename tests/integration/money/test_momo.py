"""The second provider: a key of ours that is found, a repeat that is a conflict, and a "not found" that is proof."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from chassis.saga.unit_of_work import AwaitedAct
from chassis.testing.service import types
from chassis.wire.envelope import new_id
from messages.ledger import ReturnHeld
from messages.mobile_money import PayoutPaid, ReceiptReceived
from mobile_money.readings import reference_of
from mobile_money.short_codes import ShortCode
from support.builders import a
from support.gateway_stub import Answer, GatewayStub, Got, serving
from support.mobile_money import LOST, NUMBERS, Sending, receipt

TRANSFER, PROMPT = "/disbursement/v1_0/transfer", "/collection/v1_0/requesttopay"


@dataclass
class MomoBooks:
    """A MoMo that knows what it took by our id, and says of the rest that it is not found."""

    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    drops: int = 0

    def answer(self, got: Got) -> Answer:
        path = got.line.partition(" ")[2]
        if path.endswith("/token/"):
            return Answer(body={"access_token": "t", "token_type": "access_token", "expires_in": 3600})
        if got.method == "POST":
            own_id = got.headers["x-reference-id"]
            if own_id in self.taken:
                return Answer(status=409, body={"code": "RESOURCE_ALREADY_EXIST", "message": "Duplicated reference id"})
            if self.drops:
                self.drops -= 1
                return LOST
            self.taken[own_id] = {**got.body, "status": "PENDING"}
            return Answer(status=202)
        known = self.taken.get(path.rpartition("/")[2])
        return Answer(status=404, body={"code": "RESOURCE_NOT_FOUND"}) if known is None else Answer(body=known)


@pytest.fixture
def momo() -> MomoBooks:
    return MomoBooks()


@pytest.fixture
def at_momo(engine: Engine, momo: MomoBooks, tmp_path: Path) -> Any:
    for name in ("key", "secret", "callback"):
        (tmp_path / name).write_text(name)
    with serving(GatewayStub(momo.answer)) as stub:
        digits = str(next(NUMBERS) % 900_000 + 100_000)
        code = ShortCode(
            name=f"momo-{digits}", provider="momo", short_code=digits, currency="KES", url=stub.url,
            callback_url="http://127.0.0.1:1/v1/callbacks/momo", callback_secret_file=tmp_path / "callback",
            key_file=tmp_path / "key", secret_file=tmp_path / "secret", calls_per_s=10_000,
        )  # fmt: skip
        yield Sending(engine=engine, code=code)


def own(sending: Sending, step: str = "send_payout", number: int = 1) -> str:
    return reference_of(f"{sending.saga_id}:{step}" if number == 1 else f"{sending.saga_id}:{step}:{number}")


def test_a_payout_is_taken_once_whatever_is_repeated_and_paid_by_its_status(at_momo: Sending, momo: MomoBooks) -> None:
    at_momo.pay()
    at_momo.send()
    assert at_momo.state == "SENT"
    at_momo.wait(31)
    at_momo.call()
    assert at_momo.state == "SENT", "pending is no outcome"
    number = receipt()
    momo.taken[own(at_momo)] |= {"status": "SUCCESSFUL", "financialTransactionId": number}
    at_momo.wait(61)
    assert at_momo.call() == []
    at_momo.decided()
    (paid,) = at_momo.decide()
    assert isinstance(paid, PayoutPaid)
    assert (paid.receipt, paid.amount_minor) == (number, 250_000)
    body = momo.taken[own(at_momo)]
    assert at_momo.callback("momo", body) == [], "its one callback says the same"


def test_what_a_status_does_not_find_was_never_taken_and_the_next_attempt_has_a_new_id(
    at_momo: Sending, momo: MomoBooks
) -> None:
    momo.drops = 1
    at_momo.pay()
    at_momo.send()
    at_momo.wait(10)
    at_momo.wait(31)
    (query,) = at_momo.calls
    assert query.act is AwaitedAct.QUERY
    at_momo.call()
    assert at_momo.state == "PAUSED", "proven: it never arrived"
    at_momo.wait(61)
    (call,) = at_momo.calls
    assert call.number == 2
    at_momo.send()
    assert list(momo.taken) == [own(at_momo, number=2)]


def test_a_conflict_is_an_arrival(at_momo: Sending, momo: MomoBooks) -> None:
    momo.taken[own(at_momo)] = {"status": "PENDING", "amount": "2500", "externalId": own(at_momo)}
    at_momo.pay()
    at_momo.send()
    assert at_momo.state == "SENT"


def test_a_prompt_that_is_paid_is_a_receipt(at_momo: Sending, momo: MomoBooks) -> None:
    at_momo.prompt()
    at_momo.send()
    number = receipt()
    known = momo.taken[own(at_momo, "send_prompt")]
    known |= {"status": "SUCCESSFUL", "financialTransactionId": number}
    received, paid = at_momo.callback("momo", json.loads(json.dumps(known)))
    assert isinstance(received, ReceiptReceived)
    assert (received.receipt, received.collection_id) == (number, at_momo.saga_id)
    assert types([paid]) == ["PromptPaid"]


@pytest.mark.parametrize(("reason", "state"), [("PAYEE_NOT_FOUND", "REJECTED"), ("NOT_ENOUGH_FUNDS", "PAUSED")])
def test_a_failure_is_the_members_or_ours_by_its_reason(
    at_momo: Sending, momo: MomoBooks, reason: str, state: str
) -> None:
    at_momo.pay()
    at_momo.send()
    at_momo.callback("momo", {**momo.taken[own(at_momo)], "status": "FAILED", "reason": reason})
    assert at_momo.state == state


def test_what_is_returned_is_named_by_our_id_of_its_collection(at_momo: Sending, momo: MomoBooks) -> None:
    at_momo.prompt()
    at_momo.send()
    number, prompted = receipt(), own(at_momo, "send_prompt")
    momo.taken[prompted] |= {"status": "SUCCESSFUL", "financialTransactionId": number}
    at_momo.callback("momo", json.loads(json.dumps(momo.taken[prompted])))
    back = returning(at_momo, number)
    assert momo.taken[own(back, "send_reversal")]["referenceIdToRefund"] == prompted
    other = returning(at_momo, receipt())
    assert own(other, "send_reversal") not in momo.taken
    assert other.state_of("send_reversal") == "PAUSED", "no collection of ours: it is for a person"


def returning(sending: Sending, number: str) -> Sending:
    back = sending.of_saga(saga_type="return_receipt")
    back.deliver(
        a(
            ReturnHeld, saga_id=back.saga_id, saga_type="return_receipt", provider="momo",
            short_code=back.code.short_code, receipt=number, currency="KES", amount_minor=250_000,
            source="UNALLOCATED", receipt_saga_id=new_id(),
        )
    )  # fmt: skip
    back.send()
    return back
