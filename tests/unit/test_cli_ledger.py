"""What ``baraza ledger`` makes of texts: cells for spreadsheets, entries of manual postings."""

from __future__ import annotations

import pytest

from baraza.commands.ledger import cell_of, entry_of
from baraza.terminal import UsageRefusal


@pytest.mark.parametrize(
    "text", ["=HYPERLINK(0)", "+1+1", "-2+3", "@SUM(A1)", "\tx", "\rx", "\n=x", "-", "+", "=1", "--5", "-1e5", "+5",
     " =1+1", "\u00a0=1", "\ufeff=1", "\u200b=1", " -5", "\uff1d1+1", "\uff0b1", "\uff0d2+3", "\uff20SUM(A1)",
     "\u3000\uff1d1"],
)  # fmt: skip
def test_no_text_of_others_is_a_formula(text: str) -> None:
    assert cell_of(text) == f"'{text}"


@pytest.mark.parametrize(
    ("value", "cell"),
    [("-1500", "-1500"), (-5, "-5"), ("9223372036854775808", "9223372036854775808"), (None, ""), ("m-1", "m-1"),
     (True, "True"), ("2026-11-21T10:00:00Z", "2026-11-21T10:00:00Z")],
)  # fmt: skip
def test_numbers_and_plain_texts_stay_as_they_are(value: object, cell: str) -> None:
    assert cell_of(value) == cell


def test_an_entry_has_its_accounts_currency() -> None:
    found = entry_of("sacco:fosa:m=1:KES=-9223372036854775807")
    assert found == {"account": "sacco:fosa:m=1:KES", "amount": "-9223372036854775807", "currency": "KES"}


@pytest.mark.parametrize("text", ["", "=", "a:b", "a:b=", "a=5", "a:b=1.5", "a:b=1e3", "a:b=²", "a:b=--1"])
def test_what_is_no_entry_is_refused(text: str) -> None:
    with pytest.raises(UsageRefusal, match="ACCOUNT=AMOUNT"):
        entry_of(text)
