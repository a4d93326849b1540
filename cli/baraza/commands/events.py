"""``baraza topics`` and ``baraza events``: the messages on Kafka, as analytics would read them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza.commands.options import COUNT_MAX, Commands, Home, Json
from baraza.references import named
from baraza.streams import is_read
from baraza.system import broker, running
from baraza.system.running import TRACKER_API
from baraza.terminal import Refusal, UsageRefusal, is_interactive, notify, put, put_json, put_table

if TYPE_CHECKING:
    from confluent_kafka import Message

    from chassis.wire.kafka import KafkaLogin

app = Commands(no_args_is_help=True, help="The events on Kafka, decoded.")

POLL_S = 0.5
REGISTRY_TIMEOUT_S = 5
"""The client has no timeout of its own, so a registry that stands still would stop the command for ever."""
TYPE_HEADER = "ce_type"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NO_TIMESTAMP = 0
"""confluent_kafka.TIMESTAMP_NOT_AVAILABLE."""
PERSONAL = frozenset({"ship_to", "payment_token"})
"""Personal fields, which are not shown to a person; --json has them, as they are on the topic."""


Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="A topic; ./baraza topics lists them.", show_default=False)]
FromBeginning = Annotated[bool, typer.Option("--from-beginning", help="Also the messages that are stored already.")]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, max=COUNT_MAX, metavar="NUMBER", help="Stop after this many messages.", show_default=False
    ),
]
OnlySaga = Annotated[
    str | None,
    typer.Option(
        "--saga", metavar="REFERENCE", help="Only messages of this saga: its id, or a number of it.", show_default=False
    ),
]


@app.command()
def tail(
    topic: Topic,
    from_beginning: FromBeginning = False,
    limit: Limit = None,
    saga: OnlySaga = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the messages of a topic as they arrive, decoded through the schema registry; Ctrl-C ends it."""
    stack = running.find(home)
    only = None if saga is None else named(saga, lambda: stack.api(TRACKER_API))
    messages = _messages(stack, topic, from_beginning=from_beginning, saga=only)
    for message in islice(messages, limit):
        put_json(message) if as_json else put(_line(message))
        if not is_read():
            return


def topics(home: Home = None, as_json: Json = False) -> None:
    """List the topics, with the number of messages stored in each."""
    stack = running.find(home)
    rows = list(_topics(stack.kafka))
    if as_json:
        put_json([dict(zip(("topic", "partitions", "messages"), row, strict=True)) for row in rows])
    else:
        put_table(("topic", "partitions", "messages"), rows, right=("partitions", "messages"))


def _partitions(kafka: KafkaLogin, topic: str) -> list[int]:
    """Return a topic's partitions. Raises UsageRefusal, with the most similar name, where there is no such topic."""
    topics: dict[str, list[int]] = {}
    for name, partition in broker.watermarks(kafka, _is_ours):
        topics.setdefault(name, []).append(partition)
    if topic not in topics:
        import difflib

        near = difflib.get_close_matches(topic, topics, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageRefusal(f"There is no topic {topic!r}.{hint} Run ./baraza topics to list all.")
    return topics[topic]


def _topics(kafka: KafkaLogin) -> Iterator[tuple[str, int, int]]:
    watermarks = broker.watermarks(kafka, _is_ours)
    for topic, partitions in groupby(watermarks.items(), key=lambda item: item[0][0]):
        counts = [high - low for _, (low, high) in partitions]
        yield topic, len(counts), sum(counts)


def _is_ours(topic: str) -> bool:
    return not topic.startswith("_")


def _messages(
    stack: running.Running, topic: str, *, from_beginning: bool, saga: str | None
) -> Iterator[dict[str, Any]]:
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition
    from confluent_kafka.schema_registry import SchemaRegistryClient, topic_record_subject_name_strategy
    from confluent_kafka.schema_registry.avro import AvroDeserializer

    consumer = broker.consumer(stack.kafka)
    try:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign([TopicPartition(topic, number, start) for number in _partitions(stack.kafka, topic)])
        registry = SchemaRegistryClient({"url": stack.registry_url, "timeout": REGISTRY_TIMEOUT_S})
        # The client's own strategy asks for what only Confluent's registry has.
        deserialize = AvroDeserializer(registry, conf={"subject.name.strategy": topic_record_subject_name_strategy})
        if is_interactive():
            notify(f"Waiting for messages on {topic}; Ctrl-C ends it.")
        while True:
            message = consumer.poll(POLL_S)
            if message is None:
                continue
            if (error := message.error()) is not None:
                raise Refusal(f"{topic} cannot be read ({error.str()}). Run ./baraza status.")
            if saga is None or (message.key() or b"") == saga.encode():
                yield _decoded(message, deserialize)
    finally:
        consumer.close()


def _decoded(message: Message, deserialize: Any) -> dict[str, Any]:
    """Return the message as JSON; where it is undecodable, the error and the bytes instead of the value."""
    from confluent_kafka.serialization import MessageField, SerializationContext

    headers = {name: _text(value) for name, value in broker.headers(message)}
    topic = message.topic() or ""
    decoded: dict[str, Any] = {
        "topic": topic,
        "partition": message.partition(),
        "offset": message.offset(),
        "key": _text(message.key()),
        "type": headers.get(TYPE_HEADER, ""),
        "published_at": published_at(*message.timestamp()),
        "headers": headers,
    }
    try:
        value = deserialize(message.value(), SerializationContext(topic, MessageField.VALUE))
        if not isinstance(value, dict):
            raise ValueError("the message is a tombstone" if value is None else "the value is no record")
        decoded["value"] = value
    except Exception as error:  # any bytes may be on a topic, and the message must be shown all the same
        decoded |= {"value": None, "undecodable": str(error), "bytes": (message.value() or b"").hex()}
    return decoded


def published_at(kind: int, milliseconds: int) -> str | None:
    """Return the time that a message carries; None where it has none, or one beyond the calendar."""
    try:
        return None if kind == NO_TIMESTAMP else (EPOCH + timedelta(milliseconds=milliseconds)).isoformat()
    except OverflowError:
        return None


def _line(message: dict[str, Any]) -> str:
    value = message["value"]
    name = message["type"].rpartition(".")[2] or "?"
    if value is None:
        return _visible(f"{message['key']}  {name}  cannot be decoded: {message['undecodable']}")
    at = value.get("occurred_at")
    clock = at.strftime("%H:%M:%S.%f")[:-3] if isinstance(at, datetime) else time.strftime("%H:%M:%S")
    envelope = {"message_id", "saga_id", "saga_type", "saga_version", "causation_id", "occurred_at"}
    own = {field: content for field, content in value.items() if field not in envelope | PERSONAL}
    fields = "  ".join(f"{field}={_short(content)}" for field, content in own.items())
    return _visible(f"{clock}  {message['key']}  {name}  {fields}")


def _visible(line: str) -> str:
    """Return a line without what a terminal would act on: anybody's bytes may be in a message."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _short(content: object) -> str:
    if isinstance(content, list):
        return f"[{len(content)}]"
    return str(content)
