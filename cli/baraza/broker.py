"""What the command line asks of Kafka besides messages: which topics there are, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from baraza.terminal import Refusal

if TYPE_CHECKING:
    from chassis.wire.kafka import KafkaLogin
    from confluent_kafka import Consumer, KafkaException
    from confluent_kafka.admin import AdminClient

TIMEOUT_S = 10.0
AGAIN_AFTER_S = 0.2
TRANSIENT = frozenset(
    {"UNKNOWN_LEADER_EPOCH", "NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "FENCED_LEADER_EPOCH"}
)
"""Kafka's names of the errors that a broker returns for a partition while it is back and does not lead it yet."""

Marks = dict[tuple[str, int], tuple[int, int]]
"""The first offset that is still held and the one after the last, by topic and partition."""


def unavailable(login: KafkaLogin, error: Exception) -> Refusal:
    """Return the refusal of a command that needs a broker which gives no answer."""
    return Refusal(f"Kafka at {login.address} does not answer ({error}). Run ./baraza status.")


def consumer(login: KafkaLogin) -> Consumer:
    """Return a consumer that is told what to read and commits nothing; its group bears the login's name."""
    from confluent_kafka import Consumer

    return Consumer({**login.options(), "group.id": login.user, "enable.auto.commit": False, "log_level": 0})


def marks(login: KafkaLogin, wanted: Callable[[str], bool]) -> Marks:
    """Return what each partition of the wanted topics holds, asked for all at once. Raises Refusal."""
    import tenacity
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({**login.options(), "log_level": 0})
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, KafkaException) and _is_transient(error)),
        stop=tenacity.stop_after_delay(TIMEOUT_S),
        wait=tenacity.wait_fixed(AGAIN_AFTER_S),
        reraise=True,
    )
    try:
        return retrying(_marks, admin, wanted)
    except KafkaException as error:
        raise unavailable(login, error) from error


def _is_transient(error: KafkaException) -> bool:
    return error.args[0].name() in TRANSIENT


def _marks(admin: AdminClient, wanted: Callable[[str], bool]) -> Marks:
    listed = admin.list_topics(timeout=TIMEOUT_S).topics
    places = [(name, number) for name in sorted(listed) if wanted(name) for number in sorted(listed[name].partitions)]
    if not places:
        return {}
    firsts, ends = _offsets(admin, places, "earliest"), _offsets(admin, places, "latest")
    return {place: (firsts[place], ends[place]) for place in places}


def _offsets(
    admin: AdminClient, places: list[tuple[str, int]], which: Literal["earliest", "latest"]
) -> dict[tuple[str, int], int]:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # exported, but not in the stubs' way

    spec: Any = getattr(OffsetSpec, which)()
    asked = admin.list_offsets({TopicPartition(*place): spec for place in places}, request_timeout=TIMEOUT_S)
    return {(place.topic, place.partition): future.result(TIMEOUT_S).offset for place, future in asked.items()}
