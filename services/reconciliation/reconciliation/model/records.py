"""A record of what moved, as the ledger or the gateway has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from reconciliation.model.kinds import SIGNS, Kind, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One event about a payment's money. ``minor`` is its amount without a sign."""

    saga_id: str
    source: Source
    kind: Kind
    payment_id: int
    refund_id: int | None = None
    merchant_id: str
    is_live: bool
    gateway: str
    account: str
    gateway_payment_id: str | None = None
    reference: str | None = None
    currency: str
    minor: int
    fee_minor: int = 0
    occurred_at: datetime

    @property
    def movement(self) -> str:
        """What it moves."""
        return SIGNS[self.kind][0].value

    @property
    def amount_minor(self) -> int:
        """Its amount with its sign: what the gateway owes us is positive."""
        return SIGNS[self.kind][1] * self.minor
