"""Receipts: attributed exactly or waiting for persons, of whom two decide, whatever the case of their names."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.wire.envelope import new_id
from members.phones import hash_of
from messages.ledger import (
    Allocation,
    AssignedReceiptAllocated,
    ReceiptAllocated,
    ReceiptRecorded,
    ReturnCommitted,
)
from messages.members import ReceiptAssigned, ReceiptAttributed, ReceiptReturnApproved
from messages.saga import ReceiptReturnFailed, SuspenseAllocationFailed
from support.members import Office, envelope, recorded, statuses

Json = Any


def attributed(office: Office, event: ReceiptRecorded) -> ReceiptAttributed:
    (found,) = office.stack.react(event)
    assert isinstance(found, ReceiptAttributed)
    return found


def shown(office: Office, event: ReceiptRecorded) -> Json:
    return office.call("teller", "GET", f"/v1/receipts/{event.receipt}")


def allocated(event: ReceiptRecorded, member_id: str, kind: str = "SAVINGS", **changes: Any) -> ReceiptAllocated:
    part = Allocation(kind=kind, owner=member_id, allocated_minor=event.amount_minor)
    fields = {
        "state": "ALLOCATED", "reason": None, "member_id": member_id, "allocations": (part,), "policy": "standard",
        "policy_version": 1, "loan_balance_minor": None, "loans": (),
    } | changes  # fmt: skip
    return ReceiptAllocated(**envelope(event.saga_id, "receipt"), **_of(event), **fields)


def _of(event: ReceiptRecorded) -> dict[str, Any]:
    names = ("provider", "short_code", "receipt", "currency", "amount_minor", "completed_at")
    return {name: getattr(event, name) for name in names}


def waiting(office: Office, amount_minor: int = 150_000) -> ReceiptRecorded:
    """Return a receipt that waits on the work list."""
    event = recorded("jina langu", amount_minor=amount_minor)
    assert attributed(office, event).state == "SUSPENSE"
    return event


def test_a_reference_names_an_account_exactly_or_the_receipt_waits(office: Office) -> None:
    member = office.registered()["member_id"]
    for reference in (f" dep-{member.lower()} ", f"DEP {member}", f"dep#{member}"):
        found = attributed(office, recorded(reference))
        assert (found.state, found.member_id) == ("ATTRIBUTED", member)
        assert [(each.kind, each.owner, each.limit_minor) for each in found.targets] == [("DEPOSITS", member, None)]
    by_policy = attributed(office, recorded(member))
    assert [(each.kind, each.owner) for each in by_policy.targets] == [("SAVINGS", member)]
    assert (by_policy.policy, by_policy.policy_version) == ("standard", 1)
    assert by_policy.loan_order == ("PENALTIES", "FEES", "INTEREST", "PRINCIPAL")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [("DEP99999999X", "unknown_reference"), ("0712345678", "unknown_reference"), (None, "no_reference"),
     ("🙂", "not_text"), ("123456789012345678901", "not_text")],
)  # fmt: skip
def test_what_names_no_one_waits_with_its_reason_and_its_age(
    office: Office, reference: str | None, reason: str
) -> None:
    event = recorded(reference)
    found = attributed(office, event)
    assert (found.state, found.reason, found.member_id, found.targets) == ("SUSPENSE", reason, None, ())
    row = shown(office, event)
    assert (row["state"], row["reason"]) == ("SUSPENSE", reason)
    assert row["waiting_s"] >= 0
    listed = office.call("teller", "GET", "/v1/receipts?state=SUSPENSE&limit=500")["receipts"]
    assert event.receipt in [each["receipt"] for each in listed]


def test_a_blocked_account_does_not_receive_silently_and_no_phone_decides(office: Office) -> None:
    member = office.registered()
    number = member["member_id"]
    office.call("teller", "POST", f"/v1/members/{number}/status", {"status": "BLOCKED", "reason": "A court's order."})
    found = attributed(office, recorded(number))
    assert (found.state, found.reason, found.member_id) == ("SUSPENSE", "account_blocked", number)
    payer_hash = hash_of(member["phone"], b"a key of phones")
    event = recorded("no idea", payer_hash=payer_hash)
    assert attributed(office, event).member_id is None
    assert shown(office, event)["hint_member_id"] == number


def test_a_receipt_that_comes_again_is_attributed_once(office: Office) -> None:
    member = office.registered()["member_id"]
    event = recorded(member)
    first = attributed(office, event)
    office.call("teller", "POST", f"/v1/members/{member}/status", {"status": "BLOCKED", "reason": "Later."})
    again = office.stack.react(event)
    assert again in ([], [first]), "what was decided is published again, whatever became of the member"
    assert shown(office, event)["state"] == "ATTRIBUTED"
    assert len(office.stack.rows("SELECT 1 FROM receipts WHERE receipt = :receipt", receipt=event.receipt)) == 1


def test_what_the_ledger_could_not_allocate_is_on_the_work_list(office: Office) -> None:
    member = office.registered()["member_id"]
    event = recorded(member)
    attributed(office, event)
    suspense = allocated(event, member, state="SUSPENSE", reason="loan_closed", allocations=())
    office.stack.react(suspense)
    assert (shown(office, event)["state"], shown(office, event)["reason"]) == ("SUSPENSE", "loan_closed")


def test_deposits_and_shares_count_for_dividends_once(office: Office) -> None:
    member = office.registered()["member_id"]
    event = recorded(f"SHR{member}", amount_minor=80_000, completed_at=datetime(2026, 3, 31, 21, 30, tzinfo=UTC))
    attributed(office, event)
    booked = allocated(event, member, "SHARES")
    office.stack.react(booked)
    office.stack.react(booked)
    (row,) = office.stack.rows("SELECT kind, month, amount_minor FROM holdings WHERE member_id = :id", id=member)
    assert (row.kind, row.month.isoformat(), row.amount_minor) == ("SHARES", "2026-04-01", 80_000)
    assert shown(office, event)["state"] == "ALLOCATED"


def test_two_persons_assign_a_receipt_and_the_ledger_s_event_ends_it(office: Office) -> None:
    member = office.registered()["member_id"]
    event = waiting(office)
    path = f"/v1/receipts/{event.receipt}/assignments"
    body = {"member_id": member, "target": "DEPOSITS", "reason": "The slip shows the name."}
    proposed = office.call("teller", "POST", path, body, subject="Grace", status=201)
    office.call("teller", "POST", path, body, subject="Peter", status=409)
    approval = f"/v1/assignments/{proposed['proposal_id']}/approval"
    for subject in ("Grace", "grace", "GRACE"):
        refused = office.call("approver", "POST", approval, {"reason": "Seen."}, subject=subject, status=403)
        assert refused["type"] == "urn:baraza:problem:second-person"
    approved = office.call("approver", "POST", approval, {"reason": "Seen."}, subject="Joseph", status=202)
    assert approved["decided_by"] == "Joseph"
    begun = office.stack.event(proposed["proposal_id"])
    assert isinstance(begun, ReceiptAssigned)
    assert (begun.member_id, begun.receipt_saga_id, begun.proposed_by) == (member, event.saga_id, "Grace")
    assert [(each.kind, each.owner) for each in begun.targets] == [("DEPOSITS", member)]
    assert shown(office, event)["state"] == "ASSIGNED"
    office.call("teller", "POST", path, body, subject="Peter", status=409)
    part = Allocation(kind="DEPOSITS", owner=member, allocated_minor=event.amount_minor)
    done = AssignedReceiptAllocated(
        **envelope(proposed["proposal_id"], "suspense_allocation"), **_of(event), member_id=member,
        allocations=(part,), policy="standard", policy_version=1, loan_balance_minor=None, loans=(),
        receipt_saga_id=event.saga_id,
    )  # fmt: skip
    office.stack.react(done)
    office.stack.react(done)
    assert (shown(office, event)["state"], shown(office, event)["member_id"]) == ("ALLOCATED", member)
    assert office.call("teller", "GET", f"/v1/assignments/{proposed['proposal_id']}")["state"] == "DONE"


def test_an_assignment_and_a_return_of_one_receipt_are_not_both_approved(office: Office) -> None:
    member = office.registered()["member_id"]
    event = waiting(office)
    path = f"/v1/receipts/{event.receipt}"
    one = office.call("teller", "POST", f"{path}/assignments", {"member_id": member, "reason": "A."}, status=201)
    two = office.call("teller", "POST", f"{path}/returns", {"reason": "B."}, status=201)
    approvals = [f"/v1/assignments/{one['proposal_id']}/approval", f"/v1/returns/{two['proposal_id']}/approval"]
    with office.client("approver", subject="Joseph") as client, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda url: client.post(url, json={"reason": "Seen."}), approvals))
    assert statuses(answers) == [202, 409]
    begun = office.stack.events(one["proposal_id"]) + office.stack.events(two["proposal_id"])
    assert len(begun) == 1


def test_the_table_itself_refuses_one_person_for_both(office: Office) -> None:
    event = waiting(office)
    made = office.call("teller", "POST", f"/v1/receipts/{event.receipt}/returns", {"reason": "B."}, subject="Grace")
    with pytest.raises(Exception, match="another_person"):
        office.stack.run_sql(
            "UPDATE returns SET state = 'APPROVED', decided_by = 'GRACE' WHERE proposal_id = :id",
            id=made["proposal_id"],
        )


def test_an_assignment_that_came_to_nothing_puts_the_receipt_back(office: Office) -> None:
    member = office.registered()["member_id"]
    event = waiting(office)
    made = office.call(
        "teller", "POST", f"/v1/receipts/{event.receipt}/assignments", {"member_id": member, "reason": "A."}
    )
    office.call("approver", "POST", f"/v1/assignments/{made['proposal_id']}/approval", {"reason": "Seen."})
    failed = SuspenseAllocationFailed(
        **envelope(made["proposal_id"], "suspense_allocation"), started_at=datetime.now(UTC), cause="CANCELLED",
        step="post_allocation", reason="An operator cancelled it.",
    )  # fmt: skip
    office.stack.react(failed)
    assert shown(office, event)["state"] == "SUSPENSE"
    office.call(
        "teller", "POST", f"/v1/receipts/{event.receipt}/assignments", {"member_id": member, "reason": "C."}, status=201
    )


def test_a_return_is_taken_from_where_the_money_is(office: Office) -> None:
    member = office.registered()["member_id"]
    event = recorded(member)
    attributed(office, event)
    office.call("teller", "POST", f"/v1/receipts/{event.receipt}/returns", {"reason": "Too early."}, status=409)
    office.stack.react(allocated(event, member))
    made = office.call("teller", "POST", f"/v1/receipts/{event.receipt}/returns", {"reason": "Wrong paybill."})
    office.call("approver", "POST", f"/v1/returns/{made['proposal_id']}/approval", {"reason": "Seen."})
    begun = office.stack.event(made["proposal_id"])
    assert isinstance(begun, ReceiptReturnApproved)
    assert (begun.source, begun.member_id, begun.receipt_saga_id) == ("SAVINGS", member, event.saga_id)
    failed = ReceiptReturnFailed(
        **envelope(made["proposal_id"], "return_receipt"), started_at=datetime.now(UTC), cause="REJECTED",
        step="hold_return", reason="It is spent.",
    )  # fmt: skip
    office.stack.react(failed)
    assert shown(office, event)["state"] == "ALLOCATED"
    again = office.call("teller", "POST", f"/v1/receipts/{event.receipt}/returns", {"reason": "Once more."})
    office.call("approver", "POST", f"/v1/returns/{again['proposal_id']}/approval", {"reason": "Seen."})
    committed = ReturnCommitted(
        **envelope(again["proposal_id"], "return_receipt"), **_of(event), source="SAVINGS", member_id=member,
        receipt_saga_id=event.saga_id, reversal_receipt=uuid.uuid4().hex[:10].upper(),
    )  # fmt: skip
    office.stack.react(committed)
    assert shown(office, event)["state"] == "RETURNED"


def test_a_member_sees_its_own_receipts_and_none_that_waits(office: Office) -> None:
    mine, other = office.registered()["member_id"], office.registered()["member_id"]
    own, foreign, unknown = recorded(mine), recorded(other), waiting(office)
    for event in (own, foreign):
        attributed(office, event)
    listed = office.call("member", "GET", "/v1/receipts", subject=mine)["receipts"]
    assert [each["receipt"] for each in listed] == [own.receipt]
    for event in (foreign, unknown):
        office.call("member", "GET", f"/v1/receipts/{event.receipt}", subject=mine, status=404)


def test_a_batch_of_receipts_is_attributed_each_by_its_own_reference(office: Office) -> None:
    members = [office.registered()["member_id"] for _ in range(3)]
    events = [recorded(f"SAV{number}", saga_id=new_id()) for number in members] + [recorded("nothing")]
    found = {each.saga_id: each for each in office.stack.react(*events) if isinstance(each, ReceiptAttributed)}
    assert [found[event.saga_id].member_id for event in events] == [*members, None]
