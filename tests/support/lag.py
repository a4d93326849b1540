"""The lag of each consumer, from Kafka's offsets and from the tracker's own."""

from __future__ import annotations

from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AdminClient

from stack import contract
from support.shop import Shop
from support.topics import ends
from support.waiting import until


def unhandled_counts(shop: Shop) -> dict[str, int]:
    """Return the number of messages that each consumer has not handled yet."""
    kafka, found = shop.stack.kafka(), {}
    admin = AdminClient(kafka.options())
    last = ends(kafka, *contract.topics())
    for group in contract.services():
        request = ConsumerGroupTopicPartitions(group)
        answer = admin.list_consumer_group_offsets([request])[group].result(10)
        read = [(each.topic, each.partition, each.offset) for each in answer.topic_partitions if each.offset >= 0]
        found[group] = sum(last[topic, partition] - offset for topic, partition, offset in read)
    read = shop.rows("saga-tracker", "SELECT topic, partition, next_offset FROM consumed_offsets")
    found[contract.TRACKER] = sum(last[topic, partition] - offset for topic, partition, offset in read)
    return found


def tracker_has_recorded_everything(shop: Shop) -> None:
    """Wait until the tracker has recorded all that Kafka has: no saga changes then until a person acts."""
    until(lambda: unhandled_counts(shop)[contract.TRACKER], "everything is recorded", holds=lambda count: count == 0)
