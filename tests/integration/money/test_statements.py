"""Statements: evidence of the highest rank, which brings what nothing else brought, and proves what never arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from chassis.testing.service import types
from messages.mobile_money import PayoutPaid
from mobile_money import claims
from mobile_money.claims import ClaimRefused
from mobile_money.importing import File, Imported, cover_of, import_file
from mobile_money.readings import NAIROBI
from mobile_money.statements import parse
from support.mobile_money import AT, PHONE, Sending, receipt, result

HEADER = "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Balance,Reason Type,Other Party Info"


@dataclass
class Ledger:
    """The provider's own account, of which a test prints a statement."""

    balance: int = 10_000
    rows: list[list[str]] = field(default_factory=list)
    at: datetime = AT

    def add(self, number: str, amount: int, details: str, reason: str, *, status: str = "Completed") -> None:
        self.at += timedelta(seconds=1)
        if status == "Completed":
            self.balance += amount
        stamp = self.at.astimezone(NAIROBI).strftime("%Y-%m-%d %H:%M:%S")
        paid_in, withdrawn = (f"{amount:,}.00", "") if amount > 0 else ("", f"{amount:,}.00")
        self.rows.append(
            [number, stamp, details, status, paid_in, withdrawn, f"{self.balance:,}.00", reason, f"{PHONE} - Jane"]
        )

    def csv(self, *, without: Sequence[int] = (), newest_first: bool = True) -> bytes:
        kept = [row for index, row in enumerate(self.rows) if index not in without]
        listed = reversed(kept) if newest_first else kept
        lines = [",".join(f'"{cell}"' for cell in row) for row in listed]
        return "\n".join(["Organization Statement,,", "Short Code:,600100", "", HEADER, *lines]).encode()


def imported(
    sending: Sending, content: bytes, *, account: str = "UTILITY", covers: tuple[datetime, datetime] | None = None
) -> Imported:
    begins_at, ends_at = covers or (None, None)
    file = File(
        account=account, name="day.csv", content=content, begins_at=begins_at, ends_at=ends_at, imported_by="treasurer"
    )
    with sending.engine.begin() as tx:
        return import_file(tx, sending.code, file, sending.needed, now=sending.now)


def row_of(sending: Sending, number: str) -> Any:
    with sending.engine.connect() as tx:
        query = text("SELECT match, saga_id, reason FROM statement_rows WHERE receipt = :receipt AND kind <> 'CHARGE'")
        return tx.execute(query, {"receipt": number}).one()


def test_a_row_that_came_in_and_nothing_else_brought_is_a_receipt_once(sending: Sending) -> None:
    ledger, number = Ledger(), receipt()
    ledger.add(number, 2_500, "Pay Bill from 2547", "Pay Utility")
    ledger.add(receipt(), 900, "Pay Bill", "Pay Utility", status="Cancelled")
    found = imported(sending, ledger.csv())
    (received,) = sending.read_rows(found.rows_to_publish)
    assert (received.receipt, received.amount_minor, received.door) == (number, 250_000, "STATEMENT")
    assert (found.rows, found.matched, found.listed, found.gaps) == (1, 1, 0, 0), "what is not completed is no money"
    assert imported(sending, ledger.csv()).is_repeated
    again = imported(sending, ledger.csv(newest_first=False) + b"\n")
    assert (again.new_rows, again.rows_to_publish) == (0, ()), "another export of the same rows"


def test_days_without_a_row_have_the_same_bytes_and_each_is_imported_for_each_account(sending: Sending) -> None:
    """Taken for the same file, the second day would never close, and no statement would prove what never arrived."""
    empty = f"{HEADER}\n".encode()
    days = [(AT + timedelta(days=number), AT + timedelta(days=number + 1)) for number in range(2)]
    for covers in days:
        for account in ("UTILITY", "WORKING", "CHARGES"):
            assert not imported(sending, empty, account=account, covers=covers).is_repeated
            assert imported(sending, empty, account=account, covers=covers).is_repeated
    with sending.engine.connect() as tx:
        for account in ("UTILITY", "WORKING"):
            cover = cover_of(tx, sending.code.short_code, account, sending.now)
            assert cover is not None
            assert (cover.covers_from, cover.covers_until) == (days[0][0], days[1][1])


def test_a_payout_without_any_callback_is_paid_by_the_row_that_names_it(sending: Sending) -> None:
    sending.pay()
    sending.send()
    ledger, number = Ledger(), receipt()
    details = f"Business Payment to {PHONE} via API. Original conversation ID is {sending.own_id()}."
    ledger.add(number, -2_500, details, "Business Payment to Customer via API")
    found = imported(sending, ledger.csv())
    assert (found.matched, found.listed) == (1, 0)
    (paid,) = sending.decide()
    assert isinstance(paid, PayoutPaid)
    assert (paid.receipt, paid.charge_minor) == (number, 900)
    assert sending.callback("b2c", result(sending.own_id(), number)) == [], "its callback says the same later"


def test_a_failed_payout_that_the_statement_shows_as_paid_is_a_contradiction(sending: Sending) -> None:
    sending.pay()
    sending.send()
    sending.callback("b2c", result(sending.own_id(), code=2040))
    ledger = Ledger()
    ledger.add(receipt(), -2_500, f"Original conversation ID is {sending.own_id()}.", "Business Payment")
    imported(sending, ledger.csv())
    assert types(sending.decide()) == ["StepContradicted"]


def test_a_row_that_names_no_payout_is_listed_and_never_guessed(sending: Sending) -> None:
    sending.pay()
    sending.send()
    ledger, number = Ledger(), receipt()
    ledger.add(number, -2_500, f"Business Payment to {PHONE}", "Business Payment")
    found = imported(sending, ledger.csv())
    assert (found.matched, found.listed) == (0, 1)
    assert sending.decide() == []
    assert row_of(sending, number).match == "LISTED"


def test_a_gap_is_counted_and_a_statement_with_one_proves_nothing_absent(sending: Sending) -> None:
    sending.pay()
    sending.send()
    ledger = Ledger()
    for _ in range(5):
        ledger.add(receipt(), 100, "Pay Bill", "Pay Utility")
    assert imported(sending, ledger.csv(without=[2])).gaps == 1


def test_a_statement_without_a_gap_over_the_grace_proves_that_a_payout_never_arrived(sending: Sending) -> None:
    began_at = sending.now
    sending.pay()
    sending.acknowledge()
    sending.lose()
    sending.wait(60)
    sending.lose()
    ledger = Ledger()
    ledger.add(receipt(), 100, "Pay Bill", "Pay Utility")
    sending.now += timedelta(days=2)
    short = (began_at - timedelta(hours=1), began_at + timedelta(hours=20))
    imported(sending, ledger.csv(), covers=short)
    sending.decide()
    assert sending.state == "UNSURE", "it ends before a queued request may arrive"
    ledger.add(receipt(), 100, "Pay Bill", "Pay Utility")
    imported(sending, ledger.csv(), covers=(began_at - timedelta(hours=1), began_at + timedelta(hours=30)))
    sending.decide()
    assert sending.state == "PAUSED", "proven absent: the next attempt may go, under a new id"


def test_a_row_that_could_be_the_payout_keeps_it_from_being_absent(sending: Sending) -> None:
    began_at = sending.now
    sending.pay()
    sending.acknowledge()
    sending.lose()
    sending.wait(60)
    sending.lose()
    ledger = Ledger(at=began_at + timedelta(minutes=1))
    ledger.add(receipt(), -2_500, "Business Payment", "Business Payment")
    sending.now += timedelta(days=2)
    imported(sending, ledger.csv(), covers=(began_at - timedelta(hours=1), began_at + timedelta(hours=30)))
    sending.decide()
    assert sending.state == "UNSURE"


def test_two_persons_claim_a_payout_by_the_row_that_proves_it(sending: Sending) -> None:
    sending.pay()
    sending.send()
    ledger, number = Ledger(), receipt()
    ledger.add(number, -2_500, "Business Payment", "Business Payment")
    ledger.add(receipt(), -2_400, "Business Payment", "Business Payment")
    imported(sending, ledger.csv())
    code = sending.code.short_code

    def propose(receipt_number: str) -> str:
        with sending.engine.begin() as tx:
            return claims.propose(
                tx, saga_id=sending.saga_id, short_code=code, receipt=receipt_number, account="UTILITY",
                reason="seen", by="Jane", now=sending.now,
            )  # fmt: skip

    with pytest.raises(ClaimRefused, match="without a match"):
        propose("SNOTHERE00")
    with pytest.raises(ClaimRefused, match="240000"):
        propose(ledger.rows[1][0])
    claim_id = propose(number)
    with pytest.raises(ClaimRefused, match="another person"), sending.engine.begin() as tx:
        claims.decide(tx, claim_id, is_approved=True, by="JANE", now=sending.now)
    with sending.engine.begin() as tx:
        claims.decide(tx, claim_id, is_approved=True, by="Joe", now=sending.now)
    (paid,) = sending.decide()
    assert isinstance(paid, PayoutPaid)
    assert (paid.receipt, row_of(sending, number).match) == (number, "MATCHED")


def test_a_row_is_what_its_reason_type_says_whatever_the_payer_typed(sending: Sending) -> None:
    ledger, number = Ledger(), receipt()
    for words in ("reversal", "transfer", "charge", "Settlement of my loan"):
        number = receipt()
        ledger.add(number, 2_500, f"Pay Bill from {PHONE} - Jane Acc. {words}", "Pay Bill")
    found = imported(sending, ledger.csv())
    assert types(sending.read_rows(found.rows_to_publish)) == ["ReceiptReceived"] * 4
    plain = Ledger()
    plain.add(number := receipt(), 2_500, f"Pay Bill from {PHONE} - Jane Acc. reversal", "")
    plain.add(receipt(), -2_500, f"Reversal of {number}", "")
    assert [row.kind for row in parse(plain.csv().decode()).rows] == ["IN", "REVERSAL"], "without a reason type"


def test_charges_are_compared_with_the_tariff_of_their_day(sending: Sending) -> None:
    sending.pay()
    sending.send()
    number = receipt()
    sending.callback("b2c", result(sending.own_id(), number))
    charges = Ledger(balance=-100)
    charges.add(number, -9, "Business Payment Charge", "Business Payment Charge")
    found = imported(sending, charges.csv(), account="CHARGES")
    assert (found.matched, found.listed) == (1, 0)
