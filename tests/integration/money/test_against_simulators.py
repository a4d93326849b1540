"""Mobile money against the simulated Daraja: both sides over real HTTP, each with its own books and its own reading."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine, text

from chassis.process.service import Dependencies
from chassis.testing.service import types
from messages.ledger import ReturnHeld
from messages.mobile_money import PayoutPaid, ReceiptReceived, ReceiptReversed
from mobile_money import api
from mobile_money.asking import Asking
from mobile_money.importing import File, import_file
from mobile_money.inbox import Inbox
from mobile_money.intake import Deciding
from mobile_money.short_codes import ShortCodes
from simulators.testing import SimulatorProcess, free_port, running
from support.builders import a
from support.issuer import verifying
from support.mobile_money import PHONE, Sending, short_code_of
from support.services import dependencies
from support.waiting import until

SHILLINGS = 2_500


@dataclass
class Both:
    """The simulated provider, and our service with its doors open."""

    sending: Sending
    provider: SimulatorProcess

    def door(self, method: str, path: str, body: object = None) -> Any:
        answer = httpx.request(method, f"{self.provider.url}/{path}", json=body, timeout=30)
        assert answer.is_success, answer.text
        is_json = "json" in answer.headers.get("content-type", "")
        return answer.json() if is_json else answer.text

    def settled(self, sending: Sending, wanted: str) -> list[Any]:
        """Decide about what the provider calls back, until an event of this type is published."""
        found: list[Any] = []

        def step() -> list[Any]:
            sending.now = datetime.now(UTC)
            found.extend([*sending.decided(), *sending.decide()])
            return found

        until(step, f"a {wanted}", holds=lambda got: wanted in types(got), within_s=60)
        return found

    def asking(self) -> Asking:
        sending = self.sending
        return Asking(sending.code, sending.providers, sending.needed, lambda: datetime.now(UTC))


@pytest.fixture
def both(engine: Engine, tmp_path: Path) -> Iterator[Both]:
    port = free_port()
    (tmp_path / "records").mkdir()
    code = short_code_of("http://127.0.0.1:1", tmp_path)
    code = code.model_copy(update={"callback_url": f"http://127.0.0.1:{port}/v1/callbacks/{code.name}"})
    listed = {
        "short_code": code.short_code, "currency": "KES", "key_file": str(code.key_file),
        "secret_file": str(code.secret_file), "passkey_file": str(code.passkey_file), "initiator": "baraza",
        "initiator_password_file": str(code.initiator_password_file),
    }  # fmt: skip
    (tmp_path / "codes.json").write_text(json.dumps({"short_codes": [listed]}))
    settings = {
        "BARAZA_SIMULATOR_RECORDS": str(tmp_path / "records" / "daraja.db"),
        "BARAZA_SIMULATOR_SHORT_CODES": str(tmp_path / "codes.json"),
    }
    with running("daraja", settings) as provider, verifying() as verifier:
        code = code.model_copy(update={"url": provider.url, "certificate": f"{provider.url}/certificate"})
        codes, given = ShortCodes(short_codes=(code,)), dependencies("mobile-money", verifier)
        sending = Sending(engine=engine, code=code, now=datetime.now(UTC))
        inbox = Inbox(engine)
        inbox.start()
        own = Dependencies(settings=given.settings, engine=engine, codec=given.codec, verifier=verifier)
        needed = Deciding(short_codes=codes, codec=sending.codec, phone_key=b"key")
        app = api.application(own, codes, inbox, needed)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started, "our listener", within_s=60)
        yield Both(sending=sending, provider=provider)
        server.should_exit = True
        thread.join(10)
        inbox.stop()


def test_prompts_payouts_lists_reversals_and_statements_agree_with_the_providers_books(both: Both) -> None:
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
