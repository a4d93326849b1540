"""The same request is known again: by another release, before and after a rule for texts changes."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

import pytest
from pydantic import TypeAdapter

from checkout.domain import Cart, CartLine, PaymentMethod
from checkout.fields import ShipTo
from checkout.fingerprints import UnknownRule, fingerprint, fingerprint_by, is_of, rule_of

CART: TypeAdapter[Cart] = TypeAdapter(Cart)
BODY: dict[str, Any] = {
    "customer_id": "c1",
    "currency": "USD",
    "lines": [{"sku": "tea", "quantity": 1}],
    "payment_method": {"token": "tok_ok"},
    "ship_to": {"name": "Ann", "street": "1 Elm St", "city": "Salem", "postal_code": "97301", "country": "US"},
}
ODD: dict[str, Any] = {
    "customer_id": " c1",
    "currency": "ZZZ",
    "lines": [{"sku": "cafe\u0301", "quantity": 1}],
    "payment_method": {"token": "4111-1111-1111-1111"},
    "ship_to": {"name": "\u200b", "street": "1 Elm St ", "city": " ", "postal_code": "97301", "country": "ZZ"},
}
"""What the first release accepted, and this one refuses."""
FIRST_RELEASE = {
    Cart: {"customer_id", "currency", "lines", "points_to_burn", "payment_method", "ship_to"},
    CartLine: {"sku", "quantity"},
    PaymentMethod: {"token"},
    ShipTo: {"name", "street", "city", "postal_code", "country"},
}


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (BODY, "f83b8e22b2d83695c1d530804815dc24471b96be482d0330062759a415e13ede"),
        (BODY | {"points_to_burn": 7}, "bcd2989172198284aa26f24f9403c0a8a9a41c5b26b7ef2c4f24f53e3a8a4383"),
        (ODD, "427846cc909a00b4804892af507e4474b5685835403242b80a48b3f2f22b907e"),
    ],
    ids=["plain", "points", "what is refused today"],
)
def test_a_fingerprint_of_the_first_release_is_recognised(body: dict[str, Any], stored: str) -> None:
    """The first release computed these. Its replicas run beside the new ones, and its rows stay."""
    sent = fingerprint(CART.validate_python(body))
    assert sent.hex() == stored
    assert is_of(bytes.fromhex(stored), sent)
    assert rule_of(sent) == 1


def test_what_was_not_given_is_no_part_of_it() -> None:
    without = CART.validate_python(BODY)
    null = CART.validate_python(BODY | {"ship_to": BODY["ship_to"] | {"street_2": None, "phone": None}})
    more = CART.validate_python(BODY | {"ship_to": BODY["ship_to"] | {"region": "OR"}})
    assert fingerprint(null) == fingerprint(without) != fingerprint(more)


@dataclass(frozen=True, slots=True, kw_only=True)
class TomorrowsCart(Cart):
    """A cart with a field that the next release may have."""

    gift_note: str | None = None


def test_tomorrows_cart_with_one_more_field_has_todays_fingerprint() -> None:
    tomorrow: TypeAdapter[Any] = TypeAdapter(TomorrowsCart)
    assert fingerprint_by(tomorrow, tomorrow.validate_python(BODY)) == fingerprint(CART.validate_python(BODY))
    noted = tomorrow.validate_python(BODY | {"gift_note": "For Bo"})
    assert fingerprint_by(tomorrow, noted) != fingerprint(CART.validate_python(BODY))


@pytest.mark.parametrize("kind", FIRST_RELEASE, ids=lambda kind: kind.__name__)
def test_a_field_that_is_newer_than_the_first_release_is_none_where_it_is_not_given(kind: type) -> None:
    """Another default would be part of the fingerprint, and the same body under the same key would be refused."""
    first = FIRST_RELEASE[kind]
    defaults = {each.name: each.default for each in fields(kind)}
    assert defaults.keys() >= first
    assert {name: default for name, default in defaults.items() if name not in first and default is not None} == {}
    given = {name: default for name, default in defaults.items() if default not in {MISSING, None}}
    assert given == ({"points_to_burn": 0} if kind is Cart else {})


def test_a_fingerprint_of_another_rule_is_not_compared() -> None:
    sent = fingerprint(CART.validate_python(BODY))
    with pytest.raises(UnknownRule, match="rule 2"):
        is_of(b"\x02" + sent, sent)
