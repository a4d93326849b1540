"""Whether the process is in its consumer group; one that does not join again ends itself.

After some standstills of Kafka librdkafka stays without partitions for good: its requests to the group's coordinator
wait for a connection that it never makes, while Kafka answers every other client. Only a new process joins again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

JOIN_WITHIN_S = 45.0
"""A group assigns its partitions within seconds; where everything starts at once it may take half of this."""
SPREAD_S = 15.0
"""Processes that have waited equally long do not all end at the same time."""
CHECK_EVERY_S = 5.0


class NeverJoined(Exception):
    """Kafka answers, but gives the process no partitions. It must end and be started again."""


class Membership:
    """The process's membership in its group. ``kafka_answers`` sends Kafka any request; ``clock`` counts seconds."""

    def __init__(self, kafka_answers: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka_answers = kafka_answers
        self._clock = clock
        self._join_within_s = JOIN_WITHIN_S + random.uniform(0.0, SPREAD_S)
        self._answers_since = clock()
        self._check_at = self._answers_since + CHECK_EVERY_S
        self.is_assigned = False

    def assigned(self) -> None:
        """Take note that the group assigned the process its partitions; there may be none."""
        self.is_assigned = True

    def revoked(self) -> None:
        """Take note that the process left the group, or was removed from it, and is to join again."""
        self.is_assigned = False
        self._answers_since = self._clock()

    def watch(self) -> None:
        """Raise NeverJoined where Kafka has answered for long and assigned nothing.

        The time counts from Kafka's first answer, so that an unavailable Kafka is waited for.
        """
        now = self._clock()
        if self.is_assigned or now < self._check_at:
            return
        self._check_at = now + CHECK_EVERY_S
        if not self._kafka_answers():
            self._answers_since = self._clock()
        elif now - self._answers_since >= self._join_within_s:
            raise NeverJoined(f"Kafka answers, but has assigned no partitions for {now - self._answers_since:.0f} s.")
