"""Money for people: currencies and their decimals as ISO 4217 lists them. Amounts are integers of minor units."""

from __future__ import annotations

from functools import cache
from typing import Final

from iso4217 import Currency

EXPONENTS: Final = {each.code: each.exponent for each in Currency if each.exponent is not None}
"""The decimals by code. Metals, funds' units and the codes for tests have none, so no amount can be in them."""


def is_currency(code: str) -> bool:
    """Return whether amounts can be in this currency: an active code of ISO 4217 that has minor units."""
    return code in EXPONENTS


@cache
def codes_of(exponent: int) -> tuple[str, ...]:
    """Return the codes of all currencies with this many decimals."""
    return tuple(sorted(code for code, decimals in EXPONENTS.items() if decimals == exponent))


def shown(amount_minor: int, currency: str) -> str:
    """Return an amount for a person: ``USD 15.00``, ``JPY 1,500``, ``KWD 1.500``.

    An amount in a code that ISO does not list, as stored orders may have it, is shown in minor units, and says so.
    """
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        return f"{currency} {amount_minor:,} minor units"
    units, rest = divmod(abs(amount_minor), 10**exponent)
    sign = "-" if amount_minor < 0 else ""
    decimals = f".{rest:0{exponent}}" if exponent else ""
    return f"{currency} {sign}{units:,}{decimals}"
