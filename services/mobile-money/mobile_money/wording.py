"""One sentence for a person about each reason, for texts and timelines. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SENTENCES: Final[Mapping[str, str]] = {
    "insufficient_funds": "The payer has too little money.",
    "below_minimum": "The amount is below the least that the provider takes.",
    "above_maximum": "The amount is above the most that the provider takes.",
    "daily_limit": "It would exceed the limit of the day at the provider.",
    "balance_limit": "It would exceed the most that the phone's account may hold.",
    "balance_limit_of_ours": "It would exceed the most that our short code may hold.",
    "phone_busy": "Another transaction of this phone is under way.",
    "cancelled_by_payer": "The payer cancelled it on the phone.",
    "wrong_pin": "The payer gave a wrong PIN.",
    "pin_locked": "The payer's PIN is locked at the provider.",
    "expired": "No answer came from the phone in time.",
    "not_reached": "The phone was not reached.",
    "not_pushed": "The prompt could not be sent to the phone.",
    "not_registered": "The phone is not registered with the provider.",
    "unknown_number": "The provider does not know this phone.",
    "never_arrived": "The provider's statement shows that it never arrived there.",
    "insufficient_float": "Our own account has too little money for it.",
    "no_float": "Our own account has too little money for it at present.",
    "unknown_receipt": "The provider does not know the receipt.",
}


def sentence(reason: str) -> str:
    """Return one sentence about a reason."""
    return SENTENCES.get(reason, "The provider refused it for good.")
