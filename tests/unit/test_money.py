"""How an amount is shown to a person, and which currencies an order can be in."""

from __future__ import annotations

from pathlib import Path

import pytest

from chassis.values.money import is_currency, shown

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("amount_minor", "currency", "expected"),
    [
        (1500, "JPY", "JPY 1,500"),
        (1500, "USD", "USD 15.00"),
        (1500, "KWD", "KWD 1.500"),
        (1500, "IQD", "IQD 1.500"),
        (15000, "CLF", "CLF 1.5000"),
        (1234567, "IDR", "IDR 12,345.67"),
        (0, "USD", "USD 0.00"),
        (0, "JPY", "JPY 0"),
        (5, "USD", "USD 0.05"),
        (-150, "USD", "USD -1.50"),
        (2**53 - 1, "USD", "USD 90,071,992,547,409.91"),
        (10**29 + 1, "USD", "USD 1,000,000,000,000,000,000,000,000,000.01"),
        (1500, "ZZZ", "ZZZ 1,500 minor units"),
        (1500, "XAU", "XAU 1,500 minor units"),
    ],
)
def test_an_amount_has_the_decimals_of_its_currency(amount_minor: int, currency: str, expected: str) -> None:
    assert shown(amount_minor, currency) == expected


def test_a_currency_is_one_that_amounts_can_be_in() -> None:
    assert all(is_currency(code) for code in ("USD", "JPY", "KWD", "KES", "CLF"))
    assert not any(is_currency(code) for code in ("ZZZ", "XXX", "XTS", "XAU", "usd", "", "US", "USDD", "DEM"))


def test_no_other_code_divides_minor_units() -> None:
    """An amount that is shown by hand is wrong in yen."""
    for path in [*(ROOT / "cli").rglob("*.py"), *(ROOT / "services").rglob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert not ("minor" in line and "/ 100" in line), f"{path}:{number}: {line.strip()}"
