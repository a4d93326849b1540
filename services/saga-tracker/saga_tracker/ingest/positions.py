"""Compares what is assigned, and the stored offsets, with what Kafka has. Pure: no I/O.

Everything below a stored offset counts as recorded. Where Kafka has lost the end of a partition, or a topic was made
anew, other messages are there by now, and they would be skipped in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from saga_tracker.store.consumed_offsets import StoredOffset, TopicPartition

SHOWN_MAX = 5
WAY_ON = "docs/operations.md shows the way on: 'Offsets that Kafka does not have'."


@dataclass(frozen=True, slots=True, kw_only=True)
class Available:
    """What Kafka has of a partition: its earliest offset, its end, and its topic's id; None where that is unknown."""

    earliest: int
    end: int
    topic_id: str | None = None


class OffsetsInvalid(Exception):
    """Stored offsets do not fit what Kafka has. Messages would be skipped, so the worker must stop."""


def check_topics(assigned: Collection[TopicPartition], topics: Collection[str]) -> None:
    """Raise OffsetsInvalid where a worker has partitions, but none of one of its topics: Kafka did not have that one.

    Faust ignores a topic that Kafka does not have, and learns of it minutes after it was made.
    """
    if assigned and (missing := sorted(set(topics).difference(topic for topic, _ in assigned))):
        raise OffsetsInvalid(
            f"Kafka did not have {', '.join(missing)} when partitions were assigned, so nothing there would be read. "
            f"The worker stops and begins anew. {WAY_ON}"
        )


def complete(assigned: Collection[TopicPartition], topics: Collection[str]) -> frozenset[TopicPartition]:
    """Return the assigned partitions whose number is assigned in every topic.

    While an older release runs beside this one, a topic that only this one reads is divided on its own. What a worker
    knows of such a number is not everything, so it must not act on it.
    """
    topics_of: dict[int, set[str]] = defaultdict(set)
    for topic, number in assigned:
        topics_of[number].add(topic)
    return frozenset(each for each in assigned if topics_of[each[1]].issuperset(topics))


def check(stored: Mapping[TopicPartition, StoredOffset], available: Mapping[TopicPartition, Available]) -> None:
    """Raise OffsetsInvalid unless each stored offset is one at which its partition can be continued.

    The stored offsets must have been read before ``available``: both only grow.
    """
    if problems := list(_problems(stored, available)):
        shown = " ".join(problems[:SHOWN_MAX])
        more = f" And {len(problems) - SHOWN_MAX} more." if len(problems) > SHOWN_MAX else ""
        raise OffsetsInvalid(f"{shown}{more} The worker stops, so that no message is skipped. {WAY_ON}")


def _problems(
    stored: Mapping[TopicPartition, StoredOffset], available: Mapping[TopicPartition, Available]
) -> Iterator[str]:
    replaced: set[str] = set()
    for (topic, partition), position in sorted(stored.items(), key=lambda item: item[0]):
        found = available.get((topic, partition))
        if found is None or topic in replaced:
            continue
        if None not in (position.topic_id, found.topic_id) and position.topic_id != found.topic_id:
            replaced.add(topic)
            yield (
                f"{topic} is not the topic that was recorded: its id is {found.topic_id}, that one's was "
                f"{position.topic_id}. It was made anew, or this is another cluster."
            )
        elif position.next_offset > found.end:
            yield (
                f"{topic}[{partition}] ends at {found.end} in Kafka and is recorded up to {position.next_offset}: "
                f"Kafka has lost messages, or the topic was made anew."
            )
        elif position.next_offset < found.earliest:
            yield (
                f"{topic}[{partition}] begins at {found.earliest} in Kafka and is recorded up to "
                f"{position.next_offset}: Kafka has deleted messages that are not recorded."
            )
