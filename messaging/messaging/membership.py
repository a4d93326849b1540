"""Whether the process is in its consumer group, and the end of one that never joins again.

After some standstills of Kafka librdkafka stays without partitions for good: its requests to the group's coordinator
wait for a connection that it never makes, while Kafka answers everybody else. Only a new process gets it going.
"""

from __future__ import annotations

import time
from collections.abc import Callable

JOIN_WITHIN_S = 30.0
"""A group assigns its partitions within seconds, and waits for a member that is gone for one session's timeout."""


class NeverJoined(Exception):
    """Kafka answers, but gives the process no partitions. It must end and be started again."""


class Membership:
    """The process's place in its group. ``kafka_answers`` asks Kafka anything; ``clock`` counts seconds."""

    def __init__(self, kafka_answers: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._kafka_answers = kafka_answers
        self._clock = clock
        self._waits_since = clock()
        self.is_assigned = False

    def assigned(self) -> None:
        """The group gave the process its share; that may be none."""
        self.is_assigned = True

    def revoked(self) -> None:
        """The process has left the group, or was put out, and is to join again."""
        self.is_assigned = False
        self._waits_since = self._clock()

    def watch(self) -> None:
        """Raise NeverJoined where the process has waited for too long with a Kafka that answers; one that is away is
        waited for.
        """
        if self.is_assigned or self._clock() - self._waits_since < JOIN_WITHIN_S:
            return
        if self._kafka_answers():
            raise NeverJoined(f"Kafka answers, but has assigned no partitions for {JOIN_WITHIN_S:.0f} s.")
        self._waits_since = self._clock()
