"""The port through which texts leave, and the recorder that stands in for a provider of texts.

Baraza has no such provider: texts are simulated. Their rows are what shows them; nothing leaves this process.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

KEPT_MAX: Final = 1_000
"""Texts that a recorder keeps; those before them are dropped."""


class NotSent(RuntimeError):
    """A provider took no text; the message says why, without the phone's number."""


class Texter(Protocol):
    """Sends texts. ``key`` is the same one for every attempt at a text, so that a provider may know a repetition."""

    def send(self, phone: str, body: str, key: str) -> None:
        """Send one text. Raises NotSent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedText:
    """A text that was sent."""

    phone: str
    body: str
    key: str


class Recorder:
    """Keeps the last texts in memory instead of sending them."""

    def __init__(self) -> None:
        self.sent: deque[RecordedText] = deque(maxlen=KEPT_MAX)

    def send(self, phone: str, body: str, key: str) -> None:
        """Keep a text."""
        self.sent.append(RecordedText(phone=phone, body=body, key=key))
