"""The saga of what a gateway takes back unasked. Payment starts it, and records that it has ended."""

from __future__ import annotations

from typing import Final

NAME: Final = "payment_reversal"
VERSION: Final = 1
SAGAS: Final = frozenset({(NAME, VERSION)})
