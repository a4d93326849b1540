"""Loans: two persons, parts that a provider can move, and what is left of the principal."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from members.loan_work import parts_of
from messages.ledger import Allocation, LoanBalance, PayoutCommitted, ReceiptAllocated, RepaymentPosted
from messages.members import LoanApproved, LoanRepaymentRequested
from messages.saga import LoanDisbursementFailed, LoanRepaymentFailed
from support.builders import a
from support.members import Office, envelope, new_receipt, recorded

Json = Any


def approved(office: Office, principal_minor: int, **changes: Json) -> Json:
    """Return a loan that two persons have approved, of a new member unless it is given."""
    member = changes.get("member_id") or office.registered()["member_id"]
    loan_id = f"LN{uuid.uuid4().int % 10**11}"
    body = {
        "loan_id": loan_id, "member_id": member, "principal_minor": principal_minor, "interest_ppm": 120_000,
        "term_months": 12, "loan_fee_minor": 50_000, "penalty_ppm": 10_000,
    } | changes  # fmt: skip
    office.call("member", "POST", "/v1/loans", body, subject=member, status=201)
    office.call("finance", "POST", f"/v1/loans/{loan_id}/appraisal", {"reason": "Pays well."}, subject="Grace")
    return office.call(
        "approver", "POST", f"/v1/loans/{loan_id}/approval", {"reason": "Agreed."}, subject="Joseph", status=202
    )


def begun(office: Office, loan: Json) -> list[LoanApproved]:
    found = [office.stack.event(part["saga_id"]) for part in loan["parts"] if part["saga_id"]]
    assert all(isinstance(event, LoanApproved) for event in found)
    return found


def committed(event: LoanApproved) -> PayoutCommitted:
    names = ("member_id", "provider", "short_code", "phone", "currency", "amount_minor", "fee_minor", "excise_minor")
    return PayoutCommitted(
        **envelope(event.saga_id, "loan_disbursement"), **{name: getattr(event, name) for name in names},
        source="LOAN", loan_id=event.loan_id, run_id=None, line_id=None, wave_saga_id=None, receipt=new_receipt(),
        completed_at=datetime.now(UTC), charge_minor=1_300,
    )  # fmt: skip


def read(office: Office, loan: Json) -> Json:
    return office.call("teller", "GET", f"/v1/loans/{loan['loan_id']}")


def test_parts_are_few_even_and_whole() -> None:
    assert parts_of(25_000_000, 25_000_000) == [25_000_000]
    assert parts_of(25_000_100, 25_000_000) == [12_500_100, 12_500_000]
    for principal_minor in (100, 99_999_900, 60_000_000, 75_000_100):
        parts = parts_of(principal_minor, 25_000_000)
        assert sum(parts) == principal_minor
        assert all(0 < part <= 25_000_000 and part % 100 == 0 for part in parts)


def test_the_person_who_appraised_a_loan_does_not_approve_it(office: Office) -> None:
    member = office.registered()["member_id"]
    loan_id = f"LN{uuid.uuid4().int % 10**11}"
    body = {
        "loan_id": loan_id,
        "member_id": member,
        "principal_minor": 500_000,
        "interest_ppm": 120_000,
        "term_months": 6,
    }
    office.call("teller", "POST", "/v1/loans", body, status=201)
    office.call("teller", "POST", "/v1/loans", body, status=200)
    office.call("teller", "POST", "/v1/loans", body | {"principal_minor": 600_000}, status=409)
    approval = f"/v1/loans/{loan_id}/approval"
    office.call("approver", "POST", approval, {"reason": "At once."}, subject="Joseph", status=409)
    office.call("finance", "POST", f"/v1/loans/{loan_id}/appraisal", {"reason": "Good."}, subject="Grace")
    office.call("approver", "POST", approval, {"reason": "Good."}, subject="GRACE", status=403)
    office.call("approver", "POST", approval, {"reason": "Good."}, subject="Joseph", status=202)
    office.call("approver", "POST", approval, {"reason": "Good."}, subject="Joseph", status=409)


def test_a_loan_beyond_the_limit_is_paid_in_parts_and_active_once_all_are_paid(office: Office) -> None:
    loan = approved(office, 40_000_000)
    events = begun(office, loan)
    assert [(event.part, event.parts, event.amount_minor) for event in events] == [
        (1, 2, 20_000_000),
        (2, 2, 20_000_000),
    ]
    assert {event.principal_minor for event in events} == {40_000_000}
    assert loan["state"] == "DISBURSING"
    office.stack.react(committed(events[0]))
    assert read(office, loan)["state"] == "DISBURSING"
    office.stack.react(committed(events[1]))
    assert read(office, loan)["state"] == "ACTIVE"


def test_a_part_that_failed_is_paid_again_under_another_id_by_a_person(office: Office) -> None:
    loan = approved(office, 1_000_000)
    (event,) = begun(office, loan)
    release = f"/v1/loans/{loan['loan_id']}/parts/1/release"
    office.call("approver", "POST", release, status=409)
    failed = LoanDisbursementFailed(
        **envelope(event.saga_id, "loan_disbursement"), started_at=datetime.now(UTC), cause="REJECTED",
        step="send_payout", reason="The phone is not registered.",
    )  # fmt: skip
    office.stack.react(failed)
    assert read(office, loan)["parts"][0]["state"] == "FAILED"
    again = office.call("approver", "POST", release, status=202)
    (second,) = begun(office, again)
    assert second.saga_id != event.saga_id
    assert (second.loan_id, second.part, second.amount_minor) == (event.loan_id, 1, event.amount_minor)
    office.stack.react(failed)
    assert read(office, loan)["parts"][0]["state"] == "RELEASED", "the first payout's end changes nothing of the second"


def test_parts_beyond_what_a_phone_receives_in_a_day_wait_for_a_person(office: Office) -> None:
    loan = approved(office, 70_000_000)
    states = [part["state"] for part in loan["parts"]]
    assert states == ["RELEASED", "RELEASED", "PENDING"]
    office.call("approver", "POST", f"/v1/loans/{loan['loan_id']}/parts/3/release", status=202)


def test_a_loan_is_paid_once_nothing_is_left_and_then_takes_nothing(office: Office) -> None:
    loan = approved(office, 1_000_000)
    (event,) = begun(office, loan)
    office.stack.react(committed(event))
    member, loan_id = loan["member_id"], loan["loan_id"]
    (to_loan,) = office.stack.react(recorded(loan_id.lower()))
    assert [(each.kind, each.owner) for each in to_loan.targets] == [("LOAN", loan_id), ("SAVINGS", member)]
    (by_policy,) = office.stack.react(recorded(member))
    assert [(each.kind, each.owner) for each in by_policy.targets] == [("LOAN", loan_id), ("SAVINGS", member)]
    made = office.post("/v1/repayments", {"member_id": member, "loan_id": loan_id, "amount_minor": 1_060_050}).json()
    started = office.stack.event(made["id"])
    assert isinstance(started, LoanRepaymentRequested)
    assert started.loan_order == ("PENALTIES", "FEES", "INTEREST", "PRINCIPAL")
    parts = (
        Allocation(kind="INTEREST", owner=loan_id, allocated_minor=10_050),
        Allocation(kind="PRINCIPAL", owner=loan_id, allocated_minor=1_000_000),
        Allocation(kind="SAVINGS", owner=member, allocated_minor=50_000),
    )
    posted = RepaymentPosted(
        **envelope(made["id"], "loan_repayment"), member_id=member, loan_id=loan_id, currency="KES",
        amount_minor=1_060_050, allocations=parts, policy="standard", policy_version=1, loan_balance_minor=0,
        loans=(LoanBalance(loan_id=loan_id, principal_minor=0, is_paid=True),),
    )  # fmt: skip
    office.stack.react(posted)
    shown = office.call("teller", "GET", f"/v1/repayments/{made['id']}")
    assert (shown["state"], len(shown["allocations"])) == ("PAID", 3)
    assert (read(office, loan)["state"], read(office, loan)["balance_minor"]) == ("PAID", 0)
    (late,) = office.stack.react(recorded(loan_id))
    assert (late.state, late.reason, late.member_id) == ("SUSPENSE", "loan_closed", member)
    again = office.post("/v1/repayments", {"member_id": member, "loan_id": loan_id, "amount_minor": 100})
    assert again.json()["code"] == "loan_closed"


def test_a_receipt_over_several_loans_ends_those_of_which_nothing_is_owed(office: Office) -> None:
    first = approved(office, 1_000_000)
    second, third = (approved(office, 1_000_000, member_id=first["member_id"]) for _ in range(2))
    for each in (first, second, third):
        (event,) = begun(office, each)
        office.stack.react(committed(event))
    receipt = recorded(first["member_id"])
    (to_loans,) = office.stack.react(receipt)
    assert [each.owner for each in to_loans.targets][:3] == [each["loan_id"] for each in (first, second, third)]
    owed = ((first, 0, True), (second, 0, False), (third, 900_000, False))
    balances = [
        {"loan_id": loan["loan_id"], "principal_minor": principal, "is_paid": is_paid}
        for loan, principal, is_paid in owed
    ]
    parts = [{"kind": "PRINCIPAL", "owner": each["loan_id"], "allocated_minor": 1} for each in (first, second, third)]
    allocated = a(
        ReceiptAllocated, **envelope(receipt.saga_id, "receipt"), state="ALLOCATED", receipt=receipt.receipt,
        member_id=first["member_id"], allocations=parts, loan_balance_minor=900_000, loans=balances,
    )  # fmt: skip
    office.stack.react(allocated)
    assert [read(office, each)["state"] for each in (first, second, third)] == ["PAID", "ACTIVE", "ACTIVE"]
    assert [read(office, each)["balance_minor"] for each in (first, second, third)] == [0, 0, 900_000]
    (next_one,) = office.stack.react(recorded(first["member_id"]))
    assert [each.owner for each in next_one.targets][:2] == [second["loan_id"], third["loan_id"]], "its fee is owed"


def test_a_repayment_that_the_ledger_refuses_is_failed_with_its_reason(office: Office) -> None:
    loan = approved(office, 1_000_000)
    (event,) = begun(office, loan)
    office.stack.react(committed(event))
    body = {"member_id": loan["member_id"], "loan_id": loan["loan_id"], "amount_minor": 5_000}
    made = office.post("/v1/repayments", body).json()
    failed = LoanRepaymentFailed(
        **envelope(made["id"], "loan_repayment"), started_at=datetime.now(UTC), cause="REJECTED",
        step="post_repayment", reason="Too little is in the savings account.",
    )  # fmt: skip
    office.stack.react(failed)
    shown = office.call("teller", "GET", f"/v1/repayments/{made['id']}")
    assert (shown["state"], shown["advice"]) == ("FAILED", "Nothing was booked.")
