"""The saga of what a gateway takes back unasked. Merchant notes what the ledger has booked of it."""

from __future__ import annotations

from typing import Final

SAGAS: Final = frozenset({("payment_reversal", 1)})
