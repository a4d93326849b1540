"""Rules as data: a version is stored once, is active for every process, and is never replaced by a broken file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from chassis.process.service import Dependencies
from messages.risk import PaymentBlocked, PaymentValidated
from risk import api
from risk.rule_sets import SHIPPED, RuleSets
from stack import Stack
from support.issuer import token, verifying
from support.validating import RiskUnderTest, risk_database, submitted

BROKEN_RULE = """
version = "broken-{outcome}"
on_undecided = "{outcome}"
block_score = 900
[[rules]]
name = "overflows"
when = "amount_minor * amount_minor * amount_minor > 1"
[[rules]]
name = "small"
when = "amount_minor < 10"
score = 950
"""
OVERFLOWING = 2**62
BROKEN = (
    ("payer_payments_10m >= 6", "payer_payment_10m >= 6", "#/rules/0/when", "No fact payer_payment_10m"),
    ("payer_payments_10m >= 6", "payer_payments_10m >=", "#/rules/0/when", "No expression"),
    ("payer_payments_10m >= 6", "payer_payments_10m + 6", "#/rules/0/when", "neither true nor false"),
    ("payer_payments_10m >= 6", "some([1..9], true)", "#/rules/0/when", "No fact some"),
    ("payer_payments_10m >= 6", "amount_minor > 1.5", "#/rules/0/when", "has no meaning in a rule"),
    ("payer_payments_10m >= 6", "currency > 6", "#/rules/0/when", "No expression"),
    ("\nscore = 800", "\nscore = 1001", "#/rules/0/score", "less than or equal to 1000"),
    ("\nscore = 800", "\nscore = 0.5", "#/rules/0/score", "integer"),
    ('on_undecided = "ALLOW"', "", "#/on_undecided", "required"),
    ('name = "payer_hour"', 'name = "payer_burst"', "#/rules/1/name", "twice"),
    ('version = "', "version = ", "#", "No TOML"),
)
"""What is changed to what, the field that the refusal names, and what it says."""
Send = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(SHIPPED.read_text())
    return path


@pytest.fixture
def own(infrastructure: Stack, file: Path) -> Iterator[RiskUnderTest]:
    with risk_database(infrastructure, file) as risk:
        yield risk


@pytest.fixture
def send(own: RiskUnderTest) -> Iterator[Send]:
    with verifying() as verifier:
        unused = cast(Any, None)
        dependencies = Dependencies(settings=unused, engine=own.engine, codec=unused, verifier=verifier)
        client = TestClient(api.application(dependencies, own.rules))

        def sent(method: str, path: str, status: int, body: Any = None, *, role: str = "operator") -> Any:
            headers = {"Authorization": f"Bearer {token('ann', role)}"}
            answer = client.request(method, path, json=body, headers=headers)
            assert answer.status_code == status, answer.text
            return answer.json()

        yield sent


REASON = {"reason": "more fraud on Mondays"}


def test_a_reload_is_active_in_every_process_and_the_versions_stay(own: RiskUnderTest, file: Path, send: Send) -> None:
    other = RiskUnderTest(engine=own.engine, rules=RuleSets(SHIPPED))
    assert own.submit().rules_version == "2026-11-29.1"  # type: ignore[attr-defined]
    file.write_text('version = "2"\non_undecided = "BLOCK"\nblock_score = 1\nrules = []\n')
    answer = send("POST", "/v1/rules/reload", 200, REASON)
    assert (answer["version"], answer["on_undecided"]) == ("2", "BLOCK")
    assert [each["version"] for each in answer["versions"]] == ["2", "2026-11-29.1"]
    assert (answer["versions"][0]["stored_by"], answer["versions"][0]["reason"]) == ("ann", REASON["reason"])
    assert other.submit().rules_version == "2"  # type: ignore[attr-defined]
    # A process that starts with the version before does not bring it back.
    assert RiskUnderTest(engine=own.engine, rules=RuleSets(SHIPPED)).submit().rules_version == "2"  # type: ignore[attr-defined]


def test_a_broken_file_is_refused_with_its_field_and_the_old_rules_stay(
    own: RiskUnderTest, file: Path, send: Send
) -> None:
    own.submit()
    written = file.read_text().replace('"2026-11-29.1"', '"3"')
    for changed, to, field, detail in BROKEN:
        assert changed in written
        file.write_text(written.replace(changed, to, 1))
        answer = send("POST", "/v1/rules/reload", 422, REASON)
        assert answer["errors"][0]["pointer"] == field
        assert detail in answer["errors"][0]["detail"]
    assert own.submit(payer="payer-2").rules_version == "2026-11-29.1"  # type: ignore[attr-defined]
    assert send("GET", "/v1/rules", 200)["version"] == "2026-11-29.1"


def test_a_changed_file_needs_another_version(own: RiskUnderTest, file: Path, send: Send) -> None:
    own.submit()
    assert send("POST", "/v1/rules/reload", 200, REASON)["version"] == "2026-11-29.1"
    file.write_text(file.read_text() + "\n")
    assert "another version" in send("POST", "/v1/rules/reload", 409, REASON)["detail"]


@pytest.mark.parametrize(("outcome", "expected"), [("ALLOW", PaymentValidated), ("BLOCK", PaymentBlocked)])
def test_what_happens_when_a_rule_has_no_answer_is_configured_and_in_the_event(
    own: RiskUnderTest, file: Path, send: Send, outcome: str, expected: type
) -> None:
    file.write_text(BROKEN_RULE.format(outcome=outcome))
    send("POST", "/v1/rules/reload", 200, REASON)
    answer = own.submit(currency="JPY", amount_minor=OVERFLOWING)
    assert isinstance(answer, expected)
    assert answer.signals == ("undecided:overflows",)  # type: ignore[attr-defined]
    assert own.submit(currency="JPY", amount_minor=11).signals == ("overflows",)  # type: ignore[attr-defined]
    if isinstance(answer, PaymentBlocked):
        assert answer.reason == "undecided"
    small = own.submit(currency="JPY", amount_minor=9)
    assert isinstance(small, PaymentBlocked)
    assert (small.reason, small.score) == ("score", 950)


def test_a_stored_version_of_a_later_release_is_undecided(own: RiskUnderTest) -> None:
    own.submit()
    query = text("INSERT INTO rule_sets (version, document, reason, stored_by) VALUES ('9', 'later = 1', '', 'ann')")
    with own.engine.begin() as tx:
        tx.execute(query)
    answer = own.submit(payer="payer-3")
    assert isinstance(answer, PaymentValidated)
    assert (answer.rules_version, answer.signals) == ("9", ("undecided:rules",))


def test_a_process_does_not_start_with_broken_rules(file: Path) -> None:
    file.write_text("version = 1")
    with pytest.raises(ValueError, match="#/version"):
        RuleSets(file)


def test_block_lists_keep_who_added_and_who_removed_and_why(own: RiskUnderTest, send: Send) -> None:
    body = {"kind": "payer", "value": "payer-9", "reason": "stolen card"}
    first = send("POST", "/v1/blocks", 201, body)
    assert (first["added_by"], first["reason"], first["removed_at"]) == ("ann", "stolen card", None)
    assert send("POST", "/v1/blocks", 200, body | {"reason": "again"}) == first
    assert isinstance(own.submit(payer="payer-9"), PaymentBlocked)
    removed = send("POST", "/v1/blocks/removals", 200, body | {"reason": "it was his own"})
    assert (removed["removed_by"], removed["removal_reason"]) == ("ann", "it was his own")
    send("POST", "/v1/blocks/removals", 404, body)
    assert isinstance(own.submit(payer="payer-9"), PaymentValidated)
    assert send("GET", "/v1/blocks", 200)["blocks"] == []
    assert send("GET", "/v1/blocks?with_removed=true", 200, role="support")["blocks"] == [removed]
    send("POST", "/v1/blocks", 403, body, role="support")
    send("POST", "/v1/blocks", 422, body | {"kind": "ship"})
    send("POST", "/v1/blocks", 422, body | {"reason": " "})


def test_a_dry_run_decides_and_counts_nothing(own: RiskUnderTest, send: Send) -> None:
    body = {"merchant_id": "merchant-1", "is_live": True, "currency": "USD", "amount_minor": 1_500_000,
            "payment_method": "pm_card", "payer": "payer-new"}  # fmt: skip
    for _ in range(2):
        answer = send("POST", "/v1/dry-runs", 200, body, role="support")
        assert (answer["outcome"], answer["score"]) == ("VALIDATED", 250)
        assert answer["signals"] == ["large_first_payment"]
    assert own.rows("SELECT FROM counters") == own.rows("SELECT FROM validations") == []
    assert send("POST", "/v1/dry-runs", 200, body | {"amount_minor": 10**18})["reason"] == "limit_exceeded"
    send("POST", "/v1/dry-runs", 422, body | {"amount_minor": 0})


def test_what_was_decided_about_a_payment_can_be_read(own: RiskUnderTest, send: Send) -> None:
    event = submitted(payer="payer-5", payment_id=2**62)
    saga = own.saga(event.saga_id)
    saga.deliver(event)
    found = send("GET", f"/v1/decisions/{2**62}", 200, role="support")
    assert (found["payment_id"], found["saga_id"]) == (str(2**62), event.saga_id)
    assert (found["outcome"], found["state"], found["amount_minor"]) == ("VALIDATED", "COUNTED", 1_000)
    send("GET", "/v1/decisions/77", 404)
    send("GET", f"/v1/decisions/{10**19 - 1}", 404)
    send("GET", "/v1/decisions/77", 403, role="customer")
