"""Amounts as gateways count them. Each has a table of its own, and both differ from ISO 4217. Pure.

An amount that a gateway cannot take is refused before any call, with a code that says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from chassis.values.money import EXPONENTS


class AmountNotTaken(ValueError):
    """A gateway cannot take this amount. ``reason`` is the code that merchants get; the text says what is wrong."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountRules:
    """How a gateway counts. ``exponents`` are those that differ from ISO's; ``units_max`` is its largest number.

    ``multiples`` are currencies whose amounts, in the gateway's units, must be a multiple. ``minima`` are in its units.
    """

    gateway: str
    units_max: int
    exponents: Mapping[str, int]
    multiples: Mapping[str, int] = field(default_factory=dict)
    minima: Mapping[str, int] = field(default_factory=dict)

    def units_of(self, amount_minor: int, currency: str, *, is_new: bool = True) -> int:
        """Return an amount of ISO's minor units in the gateway's. Raises AmountNotTaken.

        The minimum is for new payments alone: a capture or a refund may be of less.
        """
        if amount_minor <= 0:
            raise AmountNotTaken("amount_invalid", f"The amount is {amount_minor}; it must be above 0.")
        if currency not in EXPONENTS:
            raise AmountNotTaken("currency_unknown", f"{currency} is no currency with minor units in ISO 4217.")
        units, rest = self._scaled(amount_minor, currency)
        if rest or units % self.multiples.get(currency, 1):
            raise AmountNotTaken(
                "amount_not_exact", f"{self.gateway} cannot take {amount_minor} minor units of {currency} exactly."
            )
        if units > self.units_max:
            raise AmountNotTaken(
                "amount_too_large", f"{self.gateway} takes at most {self.units_max} of its units; {units} is more."
            )
        if is_new and units < self.minima.get(currency, 1):
            least = self.minima[currency]
            raise AmountNotTaken("amount_too_small", f"{self.gateway} takes {least} units of {currency} or more.")
        return units

    def minor_of(self, units: int, currency: str) -> int | None:
        """Return a gateway's amount in ISO's minor units; None where it is none of them exactly."""
        if currency not in EXPONENTS:
            return None
        shift = EXPONENTS[currency] - self._exponent(currency)
        if shift >= 0:
            return units * int(10**shift)
        minor, rest = divmod(units, 10**-shift)
        return None if rest else minor

    def _scaled(self, amount_minor: int, currency: str) -> tuple[int, int]:
        shift = self._exponent(currency) - EXPONENTS[currency]
        return (amount_minor * 10**shift, 0) if shift >= 0 else divmod(amount_minor, 10**-shift)

    def _exponent(self, currency: str) -> int:
        return self.exponents.get(currency, EXPONENTS[currency])


def _each(codes: str, exponent: int) -> dict[str, int]:
    return dict.fromkeys(codes.split(), exponent)


STRIPE: Final = AmountRules(
    gateway="stripe",
    units_max=99_999_999,
    exponents={
        **_each("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF", 0),
        **_each("ISK UGX", 2),
        **_each("BHD JOD KWD OMR TND", 3),
    },
    multiples=_each("BHD JOD KWD OMR TND", 10),
    minima={
        **_each("USD AUD BRL CAD CHF EUR INR NZD SGD", 50),
        **_each("GBP", 30),
        **_each("AED MYR PLN RON", 200),
        **_each("DKK", 250),
        **_each("NOK SEK", 300),
        **_each("HKD", 400),
        **_each("MXN THB", 1_000),
        **_each("CZK", 1_500),
        **_each("HUF", 17_500),
        **_each("JPY", 50),
    },
)
"""Stripe's units: up to eight digits. A currency without a minimum here has one at Stripe, which then refuses it."""

ADYEN: Final = AmountRules(
    gateway="adyen",
    units_max=2**63 - 1,
    exponents={**_each("CLP ISK", 2), **_each("CVE IDR", 0)},
)
"""Adyen's units: 64 bits. CLP and ISK have two decimals there."""
