"""How incoming money is taken in, whichever door it comes through, and what that needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from chassis.saga import evidence
from chassis.saga.attempts import Outcome
from chassis.saga.evidence import Claim, Received, Source
from chassis.wire.codec import Codec
from chassis.wire.envelope import derived_id
from mobile_money import readings, receipts
from mobile_money.port import Paid
from mobile_money.receipts import Arrival, Door
from mobile_money.short_codes import ShortCode, ShortCodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """What decisions need besides the callbacks: our short codes, the key that hashes phones, and the codec."""

    short_codes: ShortCodes
    codec: Codec
    phone_key: bytes

    def named(self, name: str) -> ShortCode:
        """Return a short code by its name. Raises LookupError."""
        for each in self.short_codes.short_codes:
            if each.name == name:
                return each
        raise LookupError(f"There is no short code named {name!r} any more; put it back into the file.")

    def payer_hash(self, payer: str | None) -> str | None:
        """Return the keyed hash of a payer; None for a mask, or without a key."""
        return None if payer is None else readings.payer_hash(self.phone_key, payer)


def take_in(tx: Connection, arrivals: Sequence[Arrival], codec: Codec, *, now: datetime) -> receipts.Arrived:
    """Take receipts in, and hand those that count on as evidence of the prompts that they pay.

    A prompt that has ended otherwise before gets none: its payment is a receipt all the same, and no contradiction.
    """
    taken = receipts.arrive(tx, arrivals, codec, now=now)
    paid = receipts.paying(tx, {each.key for each in arrivals if each.key not in taken.different})
    evidence.store(
        tx,
        [
            Received(
                id=derived_id("receipt", row.key, row.receipt),
                provider=row.provider,
                source=Source.CALLBACK if row.door in (Door.CALLBACK, Door.CONFIRMATION) else Source.STATEMENT,
                received_at=now,
                headers=(),
                body=row.receipt.encode(),
                claim=Claim(
                    outcome=Outcome.SUCCEEDED,
                    key=row.key,
                    reference=row.receipt,
                    detail=Paid(
                        receipt=row.receipt, amount_minor=row.amount_minor, completed_at=row.completed_at
                    ).detail,
                ),
            )
            for row in paid
        ],
    )
    return taken
