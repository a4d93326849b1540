"""The bodies of movements: what staff state about a balance, and why."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from inventory.api import StockMovement
from loyalty.api import PointsMovement


@pytest.mark.parametrize("reason", ["4111 1111 1111 1111", "card 4111+1111+1111+1111", " ", "a\nb"])
def test_a_reason_is_a_remark_of_staff(reason: str) -> None:
    with pytest.raises(ValidationError, match="reason"):
        StockMovement(sku="tea", kind="received", units=1, reason=reason)
    with pytest.raises(ValidationError, match="reason"):
        PointsMovement(customer_id="ann", kind="granted", points=1, reason=reason)
