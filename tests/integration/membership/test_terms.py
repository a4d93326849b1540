"""Terms are data with dates, members are registered in bulk, and the tables are as they are declared."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from chassis.postgres import migrations
from members.tables import metadata
from support.members import Office, new_phone, recorded

Json = Any
BANDS = {"withdrawal_bands": [{"up_to_minor": 25_000_000, "fee_minor": 10_000}], "payout_bands": []}
TARIFF = BANDS | {
    "excise_ppm": 200_000, "payout_min_minor": 1_000, "payout_max_minor": 25_000_000, "phone_day_max_minor": 50_000_000,
    "prompt_min_minor": 100, "prompt_max_minor": 25_000_000, "repeat_within_s": 120, "dividend_tax_ppm": 50_000,
    "rebate_tax_ppm": 150_000,
}  # fmt: skip


def test_migrations_equal_the_tables(office: Office) -> None:
    with office.stack.engine.connect() as connection:
        assert migrations.differences(metadata, connection) == []


def test_a_tariff_of_the_future_changes_nothing_before_its_day(office: Office) -> None:
    member = office.registered()["member_id"]
    later = (datetime.now(UTC) + timedelta(days=400)).isoformat()
    office.call("finance", "POST", "/v1/tariffs", TARIFF | {"valid_from": later}, status=201)
    office.call("finance", "POST", "/v1/tariffs", TARIFF | {"valid_from": later}, status=409)
    made = office.post("/v1/withdrawals", {"member_id": member, "amount_minor": 150_000}).json()
    assert (made["fee_minor"], made["excise_minor"]) == (3_500, 525)


def test_a_receipt_is_allocated_by_the_policy_of_its_value_date(office: Office) -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    order = ["INTEREST", "FEES", "PENALTIES", "PRINCIPAL"]
    first = {"name": name, "valid_from": "2026-01-01T00:00:00Z", "loan_order": order, "targets": [{"kind": "DEPOSITS"}]}
    targets = [{"kind": "SHARES", "limit_minor": 20_000}, {"kind": "DEPOSITS"}]
    second = first | {"valid_from": "2026-06-01T00:00:00Z", "targets": targets}
    assert office.call("finance", "POST", "/v1/policies", first, status=201)["version"] == 1
    assert office.call("finance", "POST", "/v1/policies", second, status=201)["version"] == 2
    refused = second | {"targets": [{"kind": "LOAN"}]}
    office.call("finance", "POST", "/v1/policies", refused, status=422)
    member = office.registered(policy=name)["member_id"]
    before, after = datetime(2026, 5, 31, tzinfo=UTC), datetime(2026, 6, 2, tzinfo=UTC)
    (early,) = office.stack.react(recorded(member, completed_at=before))
    (late,) = office.stack.react(recorded(member, completed_at=after))
    assert (early.policy_version, [each.kind for each in early.targets]) == (1, ["DEPOSITS"])
    assert (late.policy_version, late.loan_order) == (2, tuple(order))
    assert [(each.kind, each.limit_minor) for each in late.targets] == [("SHARES", 20_000), ("DEPOSITS", None)]


def test_a_closed_short_code_is_used_for_nothing_new(office: Office) -> None:
    member = office.registered()["member_id"]
    body = {"member_id": member, "amount_minor": 20_000, "provider": "momo"}
    assert office.post("/v1/collections", body).json()["short_code"] == "700200"
    closed = {"provider": "momo", "is_open": False, "rank": 1}
    office.call("operator", "PUT", "/v1/short-codes/700200", closed)
    answer = office.post("/v1/collections", body | {"amount_minor": 30_000})
    assert (answer.status_code, answer.json()["code"]) == (422, "no_short_code")
    office.call("operator", "PUT", "/v1/short-codes/700200", closed | {"is_open": True})


def test_members_are_registered_in_bulk_once(office: Office) -> None:
    stem = uuid.uuid4().hex[:8].upper()
    body = [{"member_id": f"B{stem}{number}", "name": "Otieno", "phone": new_phone()} for number in range(9)]
    assert office.call("teller", "POST", "/v1/members/bulk", body) == {"registered": 9, "known": 0}
    assert office.call("teller", "POST", "/v1/members/bulk", body) == {"registered": 0, "known": 9}
    other = [body[0] | {"name": "Another"}, {"member_id": f"C{stem}", "name": "New", "phone": new_phone()}]
    office.call("teller", "POST", "/v1/members/bulk", other, status=409)
    office.call("teller", "GET", f"/v1/members/C{stem}", status=404)
    page = office.call("teller", "GET", f"/v1/members?phone={body[0]['phone']}")
    assert [each["member_id"] for each in page["members"]] == [body[0]["member_id"]]


def test_a_number_that_reads_as_something_else_and_a_foreign_phone_are_refused(office: Office) -> None:
    good = {"member_id": "M123", "name": "Otieno", "phone": new_phone()}
    for change in ({"member_id": "DEP123"}, {"member_id": "LN5"}, {"phone": "+44 7700 900123"}, {"policy": "unknown"}):
        office.call("teller", "POST", "/v1/members", good | change, status=422)
