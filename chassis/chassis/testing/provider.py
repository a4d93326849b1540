"""A provider whose outcomes come later, and which a test answers: each call gets the next answer that was laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


class NoAnswer(AssertionError):
    """The service called its provider and the test has laid out no answer. The text says what was called."""


@dataclass(slots=True)
class AnsweredProvider:
    """The calls of an ``AwaitedCall``: ``send``, ``query`` and ``cancel``. An answer that is an exception is raised.

    ``sent``, ``queried`` and ``cancelled`` are the keys that were called, in their order.
    """

    answers: list[object] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    queried: list[tuple[str, str | None]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def send(self, request: object, key: str) -> Any:
        """Take an attempt."""
        self.sent.append(key)
        return self._next(f"send of {key}")

    def query(self, key: str, provider_id: str | None) -> Any:
        """Answer a query about an attempt."""
        self.queried.append((key, provider_id))
        return self._next(f"query of {key}")

    def cancel(self, key: str, provider_id: str | None) -> Any:
        """Answer a cancel of an attempt."""
        self.cancelled.append(key)
        return self._next(f"cancel of {key}")

    def _next(self, what: str) -> object:
        if not self.answers:
            raise NoAnswer(f"There is no answer for the {what}; lay one out before it is called.")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
