"""Amounts as gateways count them, and back: nothing is rounded, and what cannot be taken is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.values.money import EXPONENTS
from payment.gateways.amounts import ADYEN, STRIPE, AmountNotTaken, AmountRules

CURRENCIES = st.sampled_from(sorted(EXPONENTS))


@pytest.mark.parametrize("rules", [STRIPE, ADYEN], ids=lambda rules: rules.gateway)
@given(amount_minor=st.integers(min_value=1, max_value=2**62), currency=CURRENCIES)
def test_what_a_gateway_takes_comes_back_as_it_was(rules: AmountRules, amount_minor: int, currency: str) -> None:
    try:
        units = rules.units_of(amount_minor, currency)
    except AmountNotTaken:
        return
    assert rules.minor_of(units, currency) == amount_minor


@pytest.mark.parametrize(
    ("rules", "currency", "amount_minor", "units"),
    [
        (STRIPE, "USD", 5_000, 5_000), (STRIPE, "JPY", 5_000, 5_000), (STRIPE, "KRW", 5_000, 5_000),
        (STRIPE, "ISK", 5_000, 500_000), (STRIPE, "UGX", 5_000, 500_000), (STRIPE, "CLP", 5_000, 5_000),
        (STRIPE, "BHD", 5_000, 5_000), (STRIPE, "MGA", 5_000, 50), (STRIPE, "HUF", 20_000, 20_000),
        (ADYEN, "USD", 5_000, 5_000), (ADYEN, "JPY", 5_000, 5_000), (ADYEN, "ISK", 5_000, 500_000),
        (ADYEN, "CLP", 5_000, 500_000), (ADYEN, "CVE", 5_000, 50), (ADYEN, "BHD", 5_001, 5_001),
        (ADYEN, "UGX", 5_000, 5_000), (ADYEN, "MGA", 5_000, 5_000),
    ],
)  # fmt: skip
def test_each_gateway_has_exponents_of_its_own(
    rules: AmountRules, currency: str, amount_minor: int, units: int
) -> None:
    assert rules.units_of(amount_minor, currency) == units


@pytest.mark.parametrize(("units", "currency"), [(150_050, "ISK"), (10, "XXX"), (1_001, "ZZZ")])
def test_units_that_are_no_amount_of_ours_are_none(units: int, currency: str) -> None:
    assert STRIPE.minor_of(units, currency) is None


def test_eight_digits_are_the_most_at_stripe_and_not_at_adyen() -> None:
    assert STRIPE.units_of(99_999_999, "EUR") == 99_999_999
    with pytest.raises(AmountNotTaken, match="99999999"):
        STRIPE.units_of(100_000_000, "EUR")
    assert ADYEN.units_of(2**40, "EUR") == 2**40
    with pytest.raises(AmountNotTaken):
        ADYEN.units_of(2**63 - 1, "CLP")


def test_the_minimum_is_of_a_new_payment_and_not_of_a_refund() -> None:
    with pytest.raises(AmountNotTaken) as refused:
        STRIPE.units_of(49, "USD")
    assert refused.value.reason == "amount_too_small"
    assert STRIPE.units_of(49, "USD", is_new=False) == 49
