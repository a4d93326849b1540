"""The bounds of amounts and of their sums. What exceeds them is refused, never wrapped."""

from __future__ import annotations

from typing import Final

AMOUNT_MAX: Final = 2**63 - 1
"""An amount is an integer of minor units in 64 bits, as SQL's bigint and Avro's long are."""
SUM_DIGITS: Final = 38
SUM_MAX: Final = 10**SUM_DIGITS - 1
"""Totals are wider: some 10 billion billions of the largest amount."""
