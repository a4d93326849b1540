"""Remarks of staff: why they do something. They stand in timelines and on Kafka for good."""

from __future__ import annotations

from typing import Final

from chassis.values.card_number import text_holds_card_number
from chassis.values.text import human_text

LENGTH_MAX: Final = 500


def remark(text: str) -> str:
    """Return a remark without blanks around it. Raises ValueError with what is wrong, without the text itself."""
    found = human_text(text, length_max=LENGTH_MAX)
    if text_holds_card_number(found):
        raise ValueError("A card number stands in it, and a remark is kept for good; remove the number")
    return found
