"""The rules for a load of the catalogue. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from checkout.domain import Product
from checkout.fields import Refusal


def repeated(products: Sequence[Product]) -> tuple[Refusal, ...]:
    """Return a refusal for each product whose sku stands earlier in the same load."""
    seen: set[str] = set()
    refusals: list[Refusal] = []
    for number, product in enumerate(products):
        if product.sku in seen:
            detail = f"Product {number + 1} repeats sku {product.sku!r}; send each sku once."
            refusals.append(Refusal(path=("products", number, "sku"), detail=detail))
        seen.add(product.sku)
    return tuple(refusals)
