"""The policy of retries. Pure: attempt and jitter are arguments."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff: wait ``first_s`` after attempt 1, then ``factor`` times longer; ``attempts_max`` in all."""

    initial_interval_s: float = 2.0
    backoff_coefficient: float = 2.0
    attempts_max: int = 3

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Return the wait after ``attempt`` (from 1). ``jitter`` in [0, 1) spreads it over ±20%."""
        return float(self.initial_interval_s * self.backoff_coefficient ** (attempt - 1) * (0.8 + 0.4 * jitter))

    def is_exhausted(self, attempt: int) -> bool:
        """Return whether ``attempt`` (from 1) was the last one."""
        return attempt >= self.attempts_max
