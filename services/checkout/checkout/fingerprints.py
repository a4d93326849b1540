"""Fingerprints of carts and returns: by them a repeated request is known, also by another release. Pure.

Rule 1 is SHA-256 over the cart as it was sent: its fields in their order as compact JSON, without those that are None.
A cart is not brought into another form first, since rules for texts change from release to release.

A rule must never change. A new field of a cart is optional and None where it is not given, so it changes no fingerprint
of a body that lacks it: replicas of two releases agree, and what is stored stays valid. If another rule is ever needed,
its fingerprints begin with its number, and one release must read them before the next one stores them.
"""

from __future__ import annotations

import hashlib
from typing import Final

from pydantic import TypeAdapter

from checkout.domain import Cart
from checkout.returns import ReturnBody

RULE: Final = 1
DIGEST_BYTES: Final = 32
"""A fingerprint of rule 1 is the digest alone; the first release stored no number."""

_CART: TypeAdapter[Cart] = TypeAdapter(Cart)
_RETURN: TypeAdapter[ReturnBody] = TypeAdapter(ReturnBody)


class UnknownRule(Exception):
    """A stored fingerprint is of a rule that this release lacks. Complete the upgrade: a newer release stored it."""


def fingerprint(cart: Cart) -> bytes:
    """Return the cart's fingerprint by the newest rule."""
    return fingerprint_by(_CART, cart)


def fingerprint_by(cart_type: TypeAdapter[Cart], cart: Cart) -> bytes:
    """Return the fingerprint by rule 1 of a cart of this type."""
    return hashlib.sha256(cart_type.dump_json(cart, exclude_none=True)).digest()


def return_fingerprint(order_id: str, body: ReturnBody) -> bytes:
    """Return the fingerprint of a return's request by rule 1, which for a return begins with the order's id."""
    return hashlib.sha256(f"{order_id}\n".encode() + _RETURN.dump_json(body, exclude_none=True)).digest()


def rule_of(stored: bytes) -> int:
    """Return the number of the rule by which a stored fingerprint was made."""
    return RULE if len(stored) == DIGEST_BYTES else stored[0]


def is_of(stored: bytes, sent: bytes) -> bool:
    """Return whether a stored fingerprint and one of this release are of the same cart. Raises UnknownRule."""
    if rule_of(stored) != RULE:
        raise UnknownRule(f"A fingerprint of rule {rule_of(stored)}; this release knows rule {RULE}.")
    return stored == sent
