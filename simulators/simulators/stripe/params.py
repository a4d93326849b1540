"""Reads the parameters of requests. Whatever is wrong is refused before anything runs, and no key keeps that."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from simulators.face import Refused
from simulators.stripe.currencies import MINIMA, THREE_DECIMALS, UNITS_MAX
from simulators.stripe.errors import invalid

METADATA_PAIRS_MAX, METADATA_NAME_MAX, METADATA_VALUE_MAX = 50, 40, 500


def check_names(params: Mapping[str, object], known: Collection[str]) -> None:
    """Raise Refused for a parameter that the endpoint does not have."""
    for name in params:
        if name not in known:
            raise Refused(invalid(f"Received unknown parameter: {name}", param=name, code="parameter_unknown"))


def required(params: Mapping[str, object], name: str) -> str:
    """Return a parameter that must be there. Raises Refused."""
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(invalid(f"Missing required param: {name}.", param=name, code="parameter_missing"))
    return value


def whole(params: Mapping[str, object], name: str) -> int | None:
    """Return a positive whole number, None without one. Raises Refused."""
    value = params.get(name)
    if value is None:
        return None
    text = str(value)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise Refused(invalid(f"Invalid integer: {text}", param=name, code="parameter_invalid_integer"))
    if int(text) < 1:
        message = "This value must be greater than or equal to 1."
        raise Refused(invalid(message, param=name, code="parameter_invalid_integer"))
    return int(text)


def choice(params: Mapping[str, object], name: str, known: Collection[str], default: str) -> str:
    """Return one of some words. Raises Refused."""
    value = str(params.get(name, default))
    if value not in known:
        raise Refused(invalid(f"Invalid {name}: must be one of {', '.join(sorted(known))}", param=name))
    return value


def is_set(params: Mapping[str, object], name: str) -> bool:
    """Return a truth value. Raises Refused."""
    return choice(params, name, ("true", "false"), "false") == "true"


def metadata(params: Mapping[str, object]) -> dict[str, str]:
    """Return the pairs that the caller attaches. Raises Refused."""
    found = params.get("metadata", {})
    if not isinstance(found, dict) or len(found) > METADATA_PAIRS_MAX:
        raise Refused(invalid("Invalid object", param="metadata"))
    for name, value in found.items():
        if not isinstance(value, str) or len(name) > METADATA_NAME_MAX or len(value) > METADATA_VALUE_MAX:
            raise Refused(invalid(f"Metadata values can have up to 500 characters: {name}", param="metadata"))
    return dict(found)


def expansions(params: Mapping[str, object]) -> tuple[str, ...]:
    """Return what shall be shown in full."""
    found = params.get("expand", [])
    values = found.values() if isinstance(found, dict) else found
    return tuple(str(each) for each in values) if isinstance(values, list | type({}.values())) else ()


def check_amount(units: int, currency: str) -> None:
    """Raise Refused for an amount that Stripe does not take in a currency."""
    if units > UNITS_MAX:
        message = f"Amount must be no more than {UNITS_MAX}, in the smallest unit of {currency.lower()}."
        raise Refused(invalid(message, param="amount", code="amount_too_large"))
    if units < MINIMA.get(currency, 1):
        message = f"Amount must be at least {MINIMA[currency]}, in the smallest unit of {currency.lower()}."
        raise Refused(invalid(message, param="amount", code="amount_too_small"))
    if currency in THREE_DECIMALS and units % 10:
        message = f"Amounts of {currency.lower()} must be multiples of 10."
        raise Refused(invalid(message, param="amount", code="invalid_charge_amount"))
