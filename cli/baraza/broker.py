"""What the command line asks of Kafka besides messages: which topics there are, and what they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from baraza.terminal import Refusal

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient
    from messaging.kafka import KafkaLogin

TIMEOUT_S = 10.0

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
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({**login.options(), "log_level": 0})
    try:
        listed = admin.list_topics(timeout=TIMEOUT_S).topics
        places = [
            (name, number) for name in sorted(listed) if wanted(name) for number in sorted(listed[name].partitions)
        ]
        if not places:
            return {}
        firsts, ends = _offsets(admin, places, "earliest"), _offsets(admin, places, "latest")
    except KafkaException as error:
        raise unavailable(login, error) from error
    return {place: (firsts[place], ends[place]) for place in places}


def _offsets(
    admin: AdminClient, places: list[tuple[str, int]], which: Literal["earliest", "latest"]
) -> dict[tuple[str, int], int]:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # exported, but not in the stubs' way

    spec: Any = getattr(OffsetSpec, which)()
    asked = admin.list_offsets({TopicPartition(*place): spec for place in places}, request_timeout=TIMEOUT_S)
    return {(place.topic, place.partition): future.result(TIMEOUT_S).offset for place, future in asked.items()}
