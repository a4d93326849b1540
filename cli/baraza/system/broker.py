"""What the command line reads from Kafka besides messages: which topics exist, and which offsets they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from baraza.terminal import Refusal

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaException, Message
    from confluent_kafka.admin import AdminClient

    from chassis.wire.envelope import Headers
    from chassis.wire.kafka import KafkaLogin

TIMEOUT_S = 10.0
RETRY_S = 0.2
TRANSIENT = frozenset(
    {"UNKNOWN_LEADER_EPOCH", "NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "FENCED_LEADER_EPOCH"}
)
"""Kafka's names of the errors of a partition whose broker has just restarted and does not lead it yet."""

Partition = tuple[str, int]
"""A topic and the number of one of its partitions."""
Watermarks = dict[Partition, tuple[int, int]]
"""The first offset that is still stored and the one after the last, by partition."""


def unavailable(login: KafkaLogin, error: Exception) -> Refusal:
    """Return the refusal of a command that needs a broker which does not answer."""
    return Refusal(f"Kafka at {login.address} does not answer ({error}). Run ./baraza status.")


def consumer(login: KafkaLogin) -> Consumer:
    """Return a consumer without a subscription that commits nothing; its group has the login's name."""
    from confluent_kafka import Consumer

    return Consumer({**login.options(), "group.id": login.user, "enable.auto.commit": False, "log_level": 0})


def headers(message: Message) -> Headers:
    """Return a message's headers, none where they cannot be read. Call it once for a message."""
    from chassis.wire.kafka import UnreadableHeaders, headers_of

    try:
        return headers_of(message)
    except UnreadableHeaders:
        return ()


def watermarks(login: KafkaLogin, is_wanted: Callable[[str], bool]) -> Watermarks:
    """Return the watermarks of every partition of the wanted topics, queried all at once. Raises Refusal."""
    import tenacity
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({**login.options(), "log_level": 0})
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, KafkaException) and _is_transient(error)),
        stop=tenacity.stop_after_delay(TIMEOUT_S),
        wait=tenacity.wait_fixed(RETRY_S),
        reraise=True,
    )
    try:
        return retrying(_watermarks, admin, is_wanted)
    except KafkaException as error:
        raise unavailable(login, error) from error


def _is_transient(error: KafkaException) -> bool:
    return error.args[0].name() in TRANSIENT


def _watermarks(admin: AdminClient, is_wanted: Callable[[str], bool]) -> Watermarks:
    topics = admin.list_topics(timeout=TIMEOUT_S).topics
    partitions = [
        (name, number) for name in sorted(topics) if is_wanted(name) for number in sorted(topics[name].partitions)
    ]
    if not partitions:
        return {}
    low, high = _offsets(admin, partitions, "earliest"), _offsets(admin, partitions, "latest")
    return {partition: (low[partition], high[partition]) for partition in partitions}


def _offsets(
    admin: AdminClient, partitions: list[Partition], which: Literal["earliest", "latest"]
) -> dict[Partition, int]:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # exported, but not in the stubs' way

    spec: Any = getattr(OffsetSpec, which)()
    futures = admin.list_offsets({TopicPartition(*each): spec for each in partitions}, request_timeout=TIMEOUT_S)
    return {(each.topic, each.partition): future.result(TIMEOUT_S).offset for each, future in futures.items()}
