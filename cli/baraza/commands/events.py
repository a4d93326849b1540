"""``baraza topics`` and ``baraza events``: what travels on Kafka, as analytics would see it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby, islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from baraza import broker, running
from baraza.commands.options import Home, Json
from baraza.terminal import Refusal, UsageRefusal, is_interactive, put, put_json, put_table, say

if TYPE_CHECKING:
    from chassis.wire.kafka import KafkaLogin
    from confluent_kafka import Message

app = typer.Typer(no_args_is_help=True, help="The events on Kafka, decoded.")

POLL_S = 0.5
TYPE_HEADER = "ce_type"
PERSONAL = frozenset({"ship_to", "payment_token"})
"""Fields that people have no business with on a screen; --json shows them, as the topic holds them."""


@app.command()
def tail(
    topic: Annotated[
        str, typer.Argument(metavar="TOPIC", help="A topic; ./baraza topics lists them.", show_default=False)
    ],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Everything that the topic still holds.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Stop after so many messages.", show_default=False)
    ] = None,
    saga: Annotated[
        str | None, typer.Option("--saga", metavar="ID", help="Only this saga's.", show_default=False)
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show the messages of a topic as they come, decoded through the schema registry; Ctrl-C ends it."""
    stack = running.find(home)
    messages = _messages(stack, topic, from_beginning=from_beginning, saga=saga)
    for message in islice(messages, limit):
        put_json(message) if as_json else put(_line(message))


def topics(home: Home = None, as_json: Json = False) -> None:
    """List the topics, with how many messages each holds."""
    stack = running.find(home)
    rows = list(_topics(stack.kafka))
    if as_json:
        put_json([dict(zip(("topic", "partitions", "messages"), row, strict=True)) for row in rows])
    else:
        put_table(("topic", "partitions", "messages"), rows, right=("partitions", "messages"))


def _partitions(kafka: KafkaLogin, topic: str) -> list[int]:
    """Return a topic's partitions. Raises UsageRefusal, with what may have been meant, where there is none."""
    topics: dict[str, list[int]] = {}
    for name, partition in broker.marks(kafka, _is_ours):
        topics.setdefault(name, []).append(partition)
    if topic not in topics:
        import difflib

        near = difflib.get_close_matches(topic, topics, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UsageRefusal(f"No topic is called {topic!r}.{hint} Run ./baraza topics for all of them.")
    return topics[topic]


def _topics(kafka: KafkaLogin) -> Iterator[tuple[str, int, int]]:
    marks = broker.marks(kafka, _is_ours)
    for topic, places in groupby(marks, key=lambda place: place[0]):
        held = [marks[place][1] - marks[place][0] for place in places]
        yield topic, len(held), sum(held)


def _is_ours(topic: str) -> bool:
    return not topic.startswith("_")


def _messages(
    stack: running.Running, topic: str, *, from_beginning: bool, saga: str | None
) -> Iterator[dict[str, Any]]:
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer

    consumer = broker.consumer(stack.kafka)
    try:
        start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        consumer.assign([TopicPartition(topic, number, start) for number in _partitions(stack.kafka, topic)])
        deserialize = AvroDeserializer(SchemaRegistryClient({"url": stack.registry_url}))
        if is_interactive():
            say(f"Waiting for messages on {topic}; Ctrl-C ends it.")
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
    """Return what the message says; where the registry cannot make sense of its bytes, why, and the bytes."""
    from confluent_kafka.serialization import MessageField, SerializationContext

    headers = {name: _text(value) for name, value in dict(message.headers() or []).items()}
    topic = message.topic() or ""
    decoded: dict[str, Any] = {
        "topic": topic,
        "partition": message.partition(),
        "offset": message.offset(),
        "key": _text(message.key()),
        "type": headers.get(TYPE_HEADER, ""),
        "published_at": datetime.fromtimestamp(message.timestamp()[1] / 1000, tz=UTC).isoformat(),
        "headers": headers,
    }
    try:
        decoded["value"] = deserialize(message.value(), SerializationContext(topic, MessageField.VALUE))
    except Exception as error:  # whatever the bytes lead the decoder into; a tail must show the message all the same
        decoded |= {"value": None, "undecodable": str(error), "bytes": (message.value() or b"").hex()}
    return decoded


def _line(message: dict[str, Any]) -> str:
    value = message["value"]
    name = message["type"].rpartition(".")[2] or "?"
    if value is None:
        return f"{message['key']}  {name}  cannot be decoded: {message['undecodable']}"
    at = value.get("occurred_at")
    clock = at.strftime("%H:%M:%S.%f")[:-3] if isinstance(at, datetime) else time.strftime("%H:%M:%S")
    envelope = {"message_id", "saga_id", "saga_type", "saga_version", "causation_id", "occurred_at"}
    own = {field: content for field, content in value.items() if field not in envelope | PERSONAL}
    fields = "  ".join(f"{field}={_short(content)}" for field, content in own.items())
    return f"{clock}  {message['key']}  {name}  {fields}"


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _short(content: object) -> str:
    if isinstance(content, list):
        return f"[{len(content)}]"
    return str(content)
