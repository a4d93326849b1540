"""Phone numbers as people write them."""

from __future__ import annotations

import pytest

from chassis.values.phone import phone


@pytest.mark.parametrize(
    "text",
    [
        "+1 503 555 0100",
        "(503) 555-0100",
        "503.555.0100",
        "+44 (0)20 7946 0958",
        "+49/30/123456",
        "030/123456",
        "+4915112345678",
        "001 503 555 0100",
        "+1-503-555-0100 x12",
        "+1 503 555 0100 ext. 12",
        "+1 503 555 0100,12",
        "tel:+15035550100",
        "٠٥٠ ١٢٣ ٤٥٦٧",
        "０３-１２３４-５６７８",
        "+852\u00a02345\u00a06789",
        "+1 503\u2011555\u20110100",
        "911",
    ],
)
def test_a_number_is_accepted_as_it_is_typed(text: str) -> None:
    assert phone(f" {text} ", length_max=64) == text


def test_the_marks_around_a_pasted_number_are_taken_out() -> None:
    assert phone("\u202a+1 503 555 0100\u202c", length_max=64) == "+1 503 555 0100"


@pytest.mark.parametrize("text", ["call me", "+", "12", "x12", "0" * 30, "Ann +1 503 555 0100", "503\n555"])
def test_what_no_phone_can_dial_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Not a phone number|line break"):
        phone(text, length_max=64)
