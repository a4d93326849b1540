"""What members request: refused at once with the reason, taken once, never shown as failed while uncertain."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

from chassis.wire.envelope import new_id
from messages.members import CollectionRequested, MemberRegistered, WithdrawalCancellationRequested, WithdrawalRequested
from messages.mobile_money import PromptFailed, PromptPaid
from messages.saga import StepAwaited, WithdrawalFailed
from support.builders import a
from support.members import Office, envelope, new_phone, new_receipt, recorded, statuses


def test_a_member_is_registered_once_and_its_saga_opens_the_accounts(office: Office) -> None:
    member = office.registered(is_open=False, phone="0712 000 111", member_id=f"a{uuid.uuid4().hex[:6]}")
    assert member["member_id"] == member["member_id"].upper()
    assert member["phone"] == "254712000111"
    assert member["state"] == "REGISTERED"
    (row,) = office.stack.rows("SELECT saga_id FROM members WHERE member_id = :id", id=member["member_id"])
    event = office.stack.event(row.saga_id)
    assert isinstance(event, MemberRegistered)
    assert (event.member_id, event.phone, event.language) == (member["member_id"], "254712000111", "en")
    again = {"member_id": member["member_id"], "name": "Amina Wanjiru", "phone": "254712000111"}
    office.call("teller", "POST", "/v1/members", again, status=200)
    office.call("teller", "POST", "/v1/members", again | {"name": "Another"}, status=409)
    office.open_accounts(member["member_id"])
    assert office.call("teller", "GET", f"/v1/members/{member['member_id']}")["state"] == "ACTIVE"


def test_a_withdrawal_begins_a_saga_with_fee_and_excise_of_the_tariff(office: Office) -> None:
    member = office.registered()
    made = office.post(
        "/v1/withdrawals", {"member_id": member["member_id"], "amount_minor": 150_000}, member=member["member_id"]
    )
    assert made.status_code == 202, made.text
    event = office.stack.event(made.json()["id"])
    assert isinstance(event, WithdrawalRequested)
    assert (event.amount_minor, event.fee_minor, event.excise_minor) == (150_000, 3_500, 525)
    assert (event.provider, event.short_code, event.phone) == ("daraja", "600100", member["phone"])
    shown = made.json()
    assert shown["state"] == "REQUESTED"
    assert not shown["may_request_again"]
    assert "do not request it again" in shown["advice"]


def test_a_key_with_another_amount_is_refused_and_names_the_field(office: Office) -> None:
    member = office.registered()
    key = uuid.uuid4().hex
    body = {"member_id": member["member_id"], "amount_minor": 10_000}
    first = office.post("/v1/withdrawals", body, key=key)
    again = office.post("/v1/withdrawals", body, key=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    other = office.post("/v1/withdrawals", body | {"amount_minor": 20_000}, key=key)
    assert other.status_code == 409
    assert [each["pointer"] for each in other.json()["errors"]] == ["#/amount_minor"]
    assert len(office.stack.rows("SELECT 1 FROM withdrawals WHERE member_id = :id", id=member["member_id"])) == 1


def test_of_many_requests_at_once_with_keys_of_their_own_one_is_taken(office: Office) -> None:
    member = office.registered()
    body = {"member_id": member["member_id"], "amount_minor": 30_000}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: office.post("/v1/collections", body), range(8)))
    assert statuses(answers) == [202] + [409] * 7
    refused = next(answer for answer in answers if answer.status_code == 409)
    taken = next(answer for answer in answers if answer.status_code == 202)
    assert refused.json()["open_request_id"] == taken.json()["id"]
    assert 0 < int(refused.headers["Retry-After"]) <= 120
    assert refused.json()["type"] == "urn:baraza:problem:request-open"


def test_a_request_that_has_ended_does_not_stand_in_the_way_of_the_next(office: Office) -> None:
    member = office.registered()
    body = {"member_id": member["member_id"], "amount_minor": 40_000}
    first = office.post("/v1/withdrawals", body).json()["id"]
    assert office.post("/v1/withdrawals", body).status_code == 409
    failed = WithdrawalFailed(
        **envelope(first, "withdrawal"), started_at=datetime.now(UTC), cause="REJECTED", step="send_payout",
        reason="The receiver's balance would be too high.",
    )  # fmt: skip
    office.stack.react(failed)
    office.stack.react(failed)
    shown = office.call("teller", "GET", f"/v1/withdrawals/{first}")
    assert (shown["state"], shown["is_final"], shown["may_request_again"]) == ("FAILED", True, True)
    second = office.post("/v1/withdrawals", body)
    assert second.status_code == 202
    assert second.json()["id"] != first


def test_the_day_s_limit_holds_however_many_withdrawals_come_at_once(office: Office) -> None:
    member = office.registered(day_max_minor=100_000)
    amounts = [40_000, 41_000, 42_000, 43_000, 44_000, 45_000]
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(
                lambda amount: office.post(
                    "/v1/withdrawals", {"member_id": member["member_id"], "amount_minor": amount}
                ),
                amounts,
            )
        )
    assert statuses(answers) == [202, 202, 422, 422, 422, 422]
    refused = next(answer for answer in answers if answer.status_code == 422)
    assert refused.json()["code"] == "day_limit"


def test_what_a_provider_cannot_move_is_refused_at_the_door(office: Office) -> None:
    member = office.registered()

    def code(path: str, amount_minor: int) -> str:
        answer = office.post(path, {"member_id": member["member_id"], "amount_minor": amount_minor})
        assert answer.status_code == 422, answer.text
        return str(answer.json()["code"])

    assert code("/v1/withdrawals", 10_050) == "not_whole"
    assert code("/v1/withdrawals", 900) == "outside_limits"
    assert code("/v1/withdrawals", 25_000_100) == "outside_limits"
    assert code("/v1/collections", 25_000_100) == "outside_limits"


def test_money_is_paid_to_the_member_s_own_phones_alone(office: Office) -> None:
    member = office.registered()
    other = new_phone()
    body = {"member_id": member["member_id"], "amount_minor": 10_000, "phone": other}
    refused = office.post("/v1/withdrawals", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "foreign_phone")
    office.call("teller", "POST", f"/v1/members/{member['member_id']}/phones", {"phone": other})
    assert office.post("/v1/withdrawals", body).status_code == 202


def test_a_blocked_or_dormant_account_neither_pays_nor_is_prompted_for(office: Office) -> None:
    member = office.registered()
    path, status = (
        f"/v1/members/{member['member_id']}",
        {"status": "DORMANT", "account": "SAVINGS", "reason": "Unused."},
    )
    office.call("teller", "POST", f"{path}/status", status)
    body = {"member_id": member["member_id"], "amount_minor": 10_000}
    assert office.post("/v1/withdrawals", body).json()["code"] == "account_dormant"
    assert office.post("/v1/collections", body | {"target": "SAVINGS"}).json()["code"] == "account_dormant"
    assert office.post("/v1/collections", body | {"target": "DEPOSITS"}).status_code == 202
    office.call("teller", "POST", f"{path}/status", {"status": "BLOCKED", "reason": "A court's order."})
    assert office.post("/v1/collections", body | {"amount_minor": 20_000}).json()["code"] == "account_blocked"


def test_a_member_sees_and_requests_for_itself_alone(office: Office) -> None:
    mine, other = office.registered(), office.registered()
    body = {"member_id": other["member_id"], "amount_minor": 10_000}
    assert office.post("/v1/withdrawals", body, member=mine["member_id"]).status_code == 404
    made = office.post("/v1/withdrawals", body).json()["id"]
    for path in (f"/v1/withdrawals/{made}", f"/v1/members/{other['member_id']}",
                 f"/v1/members/{other['member_id']}/withdrawals"):  # fmt: skip
        office.call("member", "GET", path, subject=mine["member_id"], status=404)
        office.call("member", "GET", path, subject=other["member_id"], status=200)
    office.call("member", "GET", "/v1/members", subject=mine["member_id"], status=403)


def test_a_cancellation_is_requested_once_and_the_proven_payment_wins(office: Office) -> None:
    member = office.registered()
    made = office.post("/v1/withdrawals", {"member_id": member["member_id"], "amount_minor": 60_000}).json()["id"]
    for _ in range(2):
        office.call(
            "teller", "POST", f"/v1/withdrawals/{made}/cancellation", {"reason": "Changed my mind."}, status=202
        )
    types = [type(event) for event in office.stack.events(made)]
    assert types == [WithdrawalRequested, WithdrawalCancellationRequested]


def test_a_prompt_that_was_cancelled_and_then_paid_is_paid_late(office: Office) -> None:
    member = office.registered()
    body = {"member_id": member["member_id"], "amount_minor": 50_000, "target": "DEPOSITS"}
    made = office.post("/v1/collections", body).json()
    event = office.stack.event(made["id"])
    assert isinstance(event, CollectionRequested)
    assert event.reference == made["reference"]
    assert len(event.reference) <= 12
    failed = PromptFailed(
        **envelope(made["id"], "collection"), member_id=member["member_id"], reference=made["reference"],
        reason="cancelled", detail="The payer cancelled.",
    )  # fmt: skip
    office.stack.react(failed)
    path = f"/v1/collections/{made['id']}"
    assert office.call("teller", "GET", path)["state"] == "FAILED"
    (attributed,) = office.stack.react(recorded(made["reference"].lower(), amount_minor=50_000))
    assert (attributed.state, attributed.member_id) == ("ATTRIBUTED", member["member_id"])
    assert [(each.kind, each.owner) for each in attributed.targets] == [("DEPOSITS", member["member_id"])]
    shown = office.call("teller", "GET", path)
    assert (shown["state"], shown["received_minor"]) == ("PAID_LATE", 50_000)


def test_a_prompt_is_shown_as_prompted_once_its_provider_has_taken_it(office: Office) -> None:
    member = office.registered()
    made = office.post("/v1/collections", {"member_id": member["member_id"], "amount_minor": 90_000}).json()

    def shown() -> tuple[str, bool]:
        found = office.call("teller", "GET", f"/v1/collections/{made['id']}")
        return found["state"], found["may_request_again"]

    begun = a(
        StepAwaited, **envelope(made["id"], "collection"), service="mobile-money", step="send_prompt", attempt=1,
        undo=False, reference=None,
    )  # fmt: skip
    office.stack.react(begun)
    assert shown() == ("REQUESTED", False), "it is about to be sent"
    office.stack.react(replace(begun, message_id=new_id(), reference="ws_CO_1"))
    assert shown() == ("PROMPTED", False)
    failed = PromptFailed(
        **envelope(made["id"], "collection"), member_id=member["member_id"], reference=made["reference"],
        reason="cancelled", detail="The payer cancelled.",
    )  # fmt: skip
    office.stack.react(failed)
    assert shown() == ("FAILED", True)
    office.stack.react(replace(begun, message_id=new_id(), reference="ws_CO_1"))
    assert shown() == ("FAILED", True), "the acceptance that comes late changes nothing"


def test_a_receipt_before_the_prompt_s_failure_is_paid_late_as_well(office: Office) -> None:
    member = office.registered()
    made = office.post("/v1/collections", {"member_id": member["member_id"], "amount_minor": 70_000}).json()
    paid = PromptPaid(
        **envelope(made["id"], "collection"), member_id=member["member_id"], reference=made["reference"],
        currency="KES", amount_minor=70_000, receipt=new_receipt(), completed_at=datetime.now(UTC),
    )  # fmt: skip
    office.stack.react(paid)
    path = f"/v1/collections/{made['id']}"
    shown = office.call("teller", "GET", path)
    assert (shown["state"], shown["is_final"]) == ("PAID", True)
    office.stack.react(recorded(None, amount_minor=70_000, collection_id=made["id"], receipt=paid.receipt))
    assert office.call("teller", "GET", path)["receipt"] == paid.receipt
