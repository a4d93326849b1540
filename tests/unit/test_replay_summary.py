"""The summary of a replay names the field, the reason, and the first order that each befell."""

from __future__ import annotations

import pytest

from baraza.storefront import replay
from baraza.storefront.orderfile import Submission
from baraza.storefront.replay import Intake, Result, reason_of


def refused(pointer: str, detail: str) -> Result:
    return {"status": 422, "problem": {"errors": [{"pointer": pointer, "detail": detail}]}}


def test_a_reason_has_its_field_and_the_line_and_key_of_the_first_order() -> None:
    missing = "Missing; it is required."
    results = [
        {"status": 202, "order": {}},
        refused("#/ship_to/city", missing),
        refused("#/ship_to/street", missing),
        refused("#/ship_to/city", missing),
        refused("#/lines/3/quantity", "Line 4 (sku 'tea'): quantity 0; send at least 1."),
    ]
    batch = [Submission(key=f"k{number}", body={}, where=f"f.jsonl, line {number}") for number in range(1, 6)]
    intake = Intake()
    intake.add(batch, results)
    assert intake.refused == {
        "ship_to.city: Missing; it is required": 2,
        "ship_to.street: Missing; it is required": 1,
        "lines.quantity: quantity N; send at least 1": 1,
    }
    assert [
        reason_of(refused("#/currency", text)["problem"]) for text in ("Not of ISO 4217.", "Character 3 (U+200B).")
    ] == [
        "currency: Not of ISO 4217",
        "currency: Character N (U+200B)",
    ]
    assert intake.examples["ship_to.city: Missing; it is required"] == "f.jsonl, line 2, key k2"
    assert intake.examples["lines.quantity: quantity N; send at least 1"] == "f.jsonl, line 5, key k5"


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("2", 2.0),
        ("", 0.0),
        ("-1", 0.0),
        ("\u00b2", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        ("9" * 5_000, replay.RETRY_FOR_S),
    ],
)
def test_a_retry_waits_as_long_as_checkout_wants_and_never_longer_than_a_replay_does(text: str, wait_s: float) -> None:
    assert replay._retry_after_s(text) == wait_s
