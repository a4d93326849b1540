"""What customers return, and what happens to their parcels at the courier's simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What happens to a parcel, and the postal code at which the courier's simulator lets it happen.

    ``is_whole`` returns all of the order, else a piece of its first line.
    """

    title: str
    postal_code: str = "45202"
    is_whole: bool = False


PARCELS = (
    Parcel(title="a piece"),
    Parcel(title="a whole order", is_whole=True),
    Parcel(title="a piece, damaged on its way", postal_code="DAMAGED-PARCEL"),
    Parcel(title="a whole order, one piece missing", postal_code="SHORT-PARCEL", is_whole=True),
    Parcel(title="a piece"),
    Parcel(title="a whole order, lost by the courier", postal_code="LOST-PARCEL", is_whole=True),
    Parcel(title="a piece that is not handed over", postal_code="NOT-COLLECTED"),
)
"""What the returns of a run are, one after another and over again."""


def body_of(order: Mapping[str, Any], parcel: Parcel) -> dict[str, Any]:
    """Return the body of a request to return the whole order, or one piece of its first line."""
    lines = [{"sku": line["sku"], "quantity": line["quantity"]} for line in order["lines"]]
    return {
        "lines": lines if parcel.is_whole else [{**lines[0], "quantity": 1}],
        "collect_from": {
            "name": str(order["customer_id"]),
            "street": "1 Main Street",
            "city": "Cincinnati",
            "postal_code": parcel.postal_code,
            "country": "US",
        },
        "reason": "It is not what was expected.",
    }
