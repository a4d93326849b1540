"""Whether the process is in its consumer group, and the end of one that never joins again.

After some standstills of Kafka librdkafka stays without partitions for good: its requests to the group's coordinator
wait for a connection that it never makes, while Kafka answers everybody else. Only a new process gets it going.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

JOIN_WITHIN_S = 45.0
"""A group assigns its partitions within seconds; where everything starts at once it may take half of this."""
SPREAD_S = 15.0
"""Processes that have waited equally long do not end at once."""
ASK_EVERY_S = 5.0


class NeverJoined(Exception):
    """Kafka answers, but gives the process no partitions. It must end and be started again."""


class Membership:
    """The process's place in its group. ``kafka_answers`` asks Kafka anything; ``clock`` counts seconds."""

    def __init__(self, kafka_answers: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka_answers = kafka_answers
        self._clock = clock
        self._patience_s = JOIN_WITHIN_S + random.uniform(0.0, SPREAD_S)
        self._answers_since = clock()
        self._ask_at = self._answers_since + ASK_EVERY_S
        self.is_assigned = False

    def assigned(self) -> None:
        """The group gave the process its share; that may be none."""
        self.is_assigned = True

    def revoked(self) -> None:
        """The process has left the group, or was put out, and is to join again."""
        self.is_assigned = False
        self._answers_since = self._clock()

    def watch(self) -> None:
        """Raise NeverJoined where Kafka has answered for long and assigned nothing. A Kafka that is away is waited for:
        the time counts from its first answer.
        """
        now = self._clock()
        if self.is_assigned or now < self._ask_at:
            return
        self._ask_at = now + ASK_EVERY_S
        if not self._kafka_answers():
            self._answers_since = self._clock()
        elif now - self._answers_since >= self._patience_s:
            raise NeverJoined(f"Kafka answers, but has assigned no partitions for {now - self._answers_since:.0f} s.")
