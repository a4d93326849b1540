"""Poison messages: bytes, keys, headers and values that are wrong in every way that Kafka accepts.

Which of them go to which topic depends only on the seed.
"""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

import fastavro

from chassis.process.service import consumed_topics
from chassis.wire import envelope
from chassis.wire.codec import PREFIX, Codec
from chassis.wire.envelope import new_id, new_traceparent
from chassis.wire.kafka import HEADERS_READ_MAX
from chassis.wire.registry import Subject
from messages.checkout import OrderSubmitted
from messages.contract import Message
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest import decoding
from stack import contract
from support.builders import a
from support.services import handlers
from support.topics import OutgoingMessage

Origin: TypeAlias = tuple[str, int, str]
LONG_MAX, INT_MAX = 2**63 - 1, 2**31 - 1
BIG_BYTES = 5 * 1024 * 1024
"""Kafka's own limit of a mebibyte is for a compressed batch: a message that compresses well can be of any length."""
DEAD_LETTER_SUFFIX = ".dlq"
ODD_TIMESTAMPS_MS = (-(10**15), -1)
"""What a client in C may state as the time, and Kafka accepts."""
CUT = frozenset(
    {
        "a header of two megabytes",
        "very many empty headers",
        "a header's name that is no UTF-8",
        "a header's name in Latin-1",
        "a header's name that is a surrogate",
    }
)
"""The kinds whose headers a dead letter does not hold, or not as they were."""


def read_topics() -> frozenset[str]:
    """Return the topics that any process reads."""
    read = set(decoding.topics(DEFINITIONS))
    for service, own in handlers().items():
        read.update(consumed_topics(service, own))
    return frozenset(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """One poison message.

    ``is_dead``: its readers dead-letter it. ``saga_id``: the saga that it may start. ``is_cut``: its headers are longer
    than a dead letter holds, or a service cannot read them.
    """

    kind: str
    message: OutgoingMessage
    is_dead: bool = True
    saga_id: str = ""
    is_cut: bool = False

    @property
    def origin(self) -> Origin:
        """Its topic, its partition and its key (in hexadecimal digits)."""
        return self.message.topic, self.message.partition, (self.message.key or b"").hex()


@dataclass(slots=True, kw_only=True)
class Poisoner:
    """Creates poison for the topics of the contract, the same for the same seed."""

    codec: Codec
    partitions: int
    seed: int
    neighbours: tuple[str, ...]
    """Other sagas, whose ids become keys of messages about a different saga."""
    chance: random.Random = field(init=False)
    read: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.read = read_topics()
        self.chance = random.Random(self.seed)

    def everything(self) -> list[Poison]:
        """Return all poison, in a random order."""
        found = [poison for subject in contract.subjects() for poison in self._of_subject(subject)]
        found += [poison for topic in contract.topics() for poison in self._of_topic(topic)]
        found += list(self._hostile_orders())
        self.chance.shuffle(found)
        return found

    def some(self, share: float) -> list[Poison]:
        """Return a share of all poison, in a random order, with every kind and with every topic in it.

        All topics are read by the same code, so that a kind which breaks one of them breaks the others.
        """
        kinds: set[str] = set()
        topics: set[str] = set()
        found = []
        for poison in self.everything():
            kind, topic = poison.kind.partition(": ")[0], poison.message.topic
            if kind not in kinds or topic not in topics or self.chance.random() < share:
                found.append(poison)
            kinds.add(kind)
            topics.add(topic)
        return found

    def _written(self, topic: str, message: Message) -> bytes:
        """Return a message encoded as by a foreign producer, without our limits."""
        prefix = self.codec.encode(topic, a(type(message)))[: PREFIX.size]
        buffer = io.BytesIO(prefix)
        buffer.seek(PREFIX.size)
        fastavro.schemaless_writer(buffer, json.loads(message.SCHEMA), message.to_record())
        return buffer.getvalue()

    def _outgoing(self, topic: str, value: bytes | None, key: bytes | None, **more: Any) -> OutgoingMessage:
        return OutgoingMessage(
            topic=topic, partition=self.chance.randrange(self.partitions), key=key, value=value, **more
        )

    def _of_topic(self, topic: str) -> Iterator[Poison]:
        """Yield bytes that are no message, and invalid keys and headers, for any topic."""
        dead = topic in self.read and not topic.endswith(DEAD_LETTER_SUFFIX)
        noise = self.chance.randbytes(40)
        values: dict[str, bytes | None] = {
            "a tombstone": None,
            "no bytes": b"",
            "four bytes": b"\x00\x00\x00\x00",
            "another magic byte": b"\x01" + noise,
            "an unknown schema id": struct.pack(">bI", 0, INT_MAX) + noise,
            "the highest schema id": struct.pack(">bI", 0, 2**32 - 1),
            "five megabytes of nothing": bytes(BIG_BYTES),
        }
        for kind, value in values.items():
            yield Poison(kind=kind, message=self._outgoing(topic, value, new_id().encode()), is_dead=dead)
        keys = {
            "no key": None,
            "a key that is no text": b"\xff\xfe\x00",
            "a long key": b"k" * 50_000,
            "no ULID": b"8842",
        }
        for kind, key in keys.items():
            yield Poison(kind=kind, message=self._outgoing(topic, b"\x01" + noise, key), is_dead=dead)
        for kind, pairs in self._odd_headers().items():
            outgoing = self._outgoing(topic, b"\x01" + noise, new_id().encode(), headers=pairs)
            yield Poison(kind=kind, message=outgoing, is_dead=dead, is_cut=kind in CUT)
        for timestamp_ms in ODD_TIMESTAMPS_MS:
            outgoing = self._outgoing(topic, b"\x01" + noise, new_id().encode(), timestamp_ms=timestamp_ms)
            yield Poison(kind=f"the timestamp {timestamp_ms}", message=outgoing, is_dead=dead)

    def _odd_headers(self) -> dict[str, tuple[tuple[str | bytes, bytes | None], ...]]:
        binary = bytes(range(256))
        names = ("traceparent", "ce_id", "ce_type", "baraza_attempts", "baraza_reason", "baraza_step", "baraza_topic")
        return {
            "binary headers": tuple((name, binary) for name in names),
            "headers twice": tuple((name, b"1") for name in (*names, *names)),
            "a huge header": (("ce_type", b"h" * 200_000),),
            "three hundred headers": tuple((f"h{number}", b"x") for number in range(300)),
            "a header without a name": (("", b"x"), ("é" * 100, b"")),
            "headers without values": (*((name, None) for name in names), ("", None)),
            "five thousand headers of one name": (("traceparent", b"x"),) * 5_000,
            "a header's name of 50,000 characters": (("n" * 50_000, b"x"),),
            "a header of two megabytes": (("traceparent", bytes(2_000_000)),),
            "very many empty headers": (("", b""),) * HEADERS_READ_MAX,
            "a header's name that is no UTF-8": ((b"a", b"1"), (b"\xff\xfe", b"2"), (b"traceparent", None)),
            "a header's name in Latin-1": ((b"stra\xdfe", b"x"),),
            "a header's name that is a surrogate": ((b"\xed\xa0\x80", b"x"),),
        }

    def _of_subject(self, subject: Subject) -> Iterator[Poison]:
        """Yield a good message of the topic, each time with one defect."""
        dead = subject.topic in self.read
        message = a(subject.message_type)
        key, value = message.saga_id.encode(), self._written(subject.topic, message)
        broken = {
            "cut off": value[: self.chance.randrange(5, len(value))],
            "trailing bytes": value + b"\x00",
            "another type's bytes": value[:5] + self.chance.randbytes(len(value)),
        }
        for kind, bad in broken.items():
            yield self._named(f"{kind}: {subject.name}", subject, self._outgoing(subject.topic, bad, key), is_dead=dead)
        for kind, other in {"another's key": self.chance.choice(self.neighbours).encode(), "no key": None}.items():
            yield self._named(
                f"{kind}: {subject.name}", subject, self._outgoing(subject.topic, value, other), is_dead=dead
            )
        for kind, given in self._odd_envelopes().items():
            odd = replace(message, **given)
            outgoing = self._outgoing(subject.topic, self._written(subject.topic, odd), odd.saga_id.encode())
            yield self._named(f"{kind}: {subject.name}", subject, outgoing, is_dead=dead)
        yield from self._of_fields(subject, value)
        yield self._on_another_topic(subject, value, key)

    def _of_fields(self, subject: Subject, value: bytes) -> Iterator[Poison]:
        """Yield good messages of the topic with fields besides the key and the value that are odd."""
        names = (b"\xff", b"x"), (b"ce_type", subject.message_type.FULL_NAME.encode())
        trace = ("traceparent", b"00-" + b"a" * 1_100_000 + b"-" + b"b" * 16 + b"-01")
        odd: dict[str, dict[str, Any]] = {
            "a header's name that is no UTF-8": {"headers": names},
            "a trace context of a megabyte": {"headers": (trace,)},
            "a long trace id": {"headers": (("traceparent", b"0" * 1_100_000 + trace[1][-53:]),)},
            "a timestamp long ago": {"timestamp_ms": ODD_TIMESTAMPS_MS[0]},
        }
        for kind, given in odd.items():
            message = a(subject.message_type)
            outgoing = self._outgoing(
                subject.topic, self._written(subject.topic, message), message.saga_id.encode(), **given
            )
            dead = kind == "a header's name that is no UTF-8" and self._is_handled(subject)
            yield Poison(kind=f"{kind}: {subject.name}", message=outgoing, is_dead=dead, is_cut=True)

    def _is_handled(self, subject: Subject) -> bool:
        """Return whether a service has a handler for the subject's messages."""
        return any(
            subject.topic in consumed_topics(service, own) and own.for_message(subject.message_type)
            for service, own in handlers().items()
        )

    def _named(self, kind: str, subject: Subject, outgoing: OutgoingMessage, *, is_dead: bool) -> Poison:
        named = ("ce_type", subject.message_type.FULL_NAME.encode())
        return Poison(kind=kind, message=replace(outgoing, headers=(*outgoing.headers, named)), is_dead=is_dead)

    def _odd_envelopes(self) -> dict[str, dict[str, Any]]:
        return {
            "a NUL in the saga id": {"saga_id": new_id() + "\x00"},
            "a long saga id": {"saga_id": "x" * 5_000},
            "a long message id": {"message_id": "x" * 5_000},
            "an empty saga id": {"saga_id": ""},
        }

    def _on_another_topic(self, subject: Subject, value: bytes, key: bytes) -> Poison:
        """Return a good message on a topic to which it does not belong."""
        own = {each.topic for each in contract.subjects() if each.message_type is subject.message_type}
        others = [topic for topic in contract.topics() if topic not in own and not topic.endswith(DEAD_LETTER_SUFFIX)]
        topic = self.chance.choice(others)
        # A service ignores events without a handler, and the tracker does not read its own.
        dead = topic in self.read and topic != contract.SAGA_EVENTS
        return self._named(f"on {topic}: {subject.name}", subject, self._outgoing(topic, value, key), is_dead=dead)

    def _hostile_orders(self) -> Iterator[Poison]:
        """Yield orders that can be decoded, with values that checkout would refuse."""
        parts = ("name", "street", "city", "postal_code", "country", "street_2", "region", "phone")
        address = dict.fromkeys(parts, "A")
        for kind, given in {**self._hostile_values(address), **self._unprocessable_values()}.items():
            line = {"sku": "tea", "quantity": 1, "unit_price_minor": 250, **given.pop("line", {})}
            money = {"currency": "USD", "points_to_burn": 0, "total_minor": 250, "payable_minor": 250}
            payer = {"customer_id": f"customer-{new_id()}", "payment_token": f"tok_{new_id()}"}
            order = a(OrderSubmitted, **{**money, **payer, "ship_to": address, "lines": [line], **given})
            yield self._order(kind, order, is_dead=kind in self._unprocessable_values())

    def _hostile_values(self, address: dict[str, str]) -> dict[str, dict[str, Any]]:
        amounts = ("points_to_burn", "total_minor", "payable_minor")
        return {
            "only a wrong partition": {},
            "no lines": {"lines": []},
            "the largest line": {"line": {"quantity": INT_MAX, "unit_price_minor": LONG_MAX}},
            "the smallest line": {"line": {"quantity": -INT_MAX - 1, "unit_price_minor": -LONG_MAX - 1}},
            "the largest amounts": dict.fromkeys(amounts, LONG_MAX),
            "the smallest amounts": dict.fromkeys(amounts, -LONG_MAX - 1),
            "the most points": {"points_to_burn": LONG_MAX},
            "a NUL in its customer": {"customer_id": "a\x00", "points_to_burn": 1},
            "a NUL in its token": {"payment_token": "\x00"},
            "a NUL in its line": {"line": {"sku": "\x00"}},
            "a NUL in its address": {"ship_to": dict.fromkeys(address, "\x00")},
            "a long customer": {"customer_id": "c" * 5_000, "points_to_burn": 1},
            "a long token": {"payment_token": "t" * 5_000},
            "a long line": {"line": {"sku": "s" * 5_000}},
            "a long address": {"ship_to": dict.fromkeys(address, "x" * 30_000)},
            "noncharacters": {"customer_id": "\ufffe\U0010ffff\u202e", "line": {"sku": "\u2028"}},
            "a time long ago": {"occurred_at": datetime(2001, 1, 1, tzinfo=UTC)},
            "a time far ahead": {"occurred_at": datetime(2199, 1, 1, tzinfo=UTC)},
        }

    def _unprocessable_values(self) -> dict[str, dict[str, Any]]:
        return {
            "the last day": {"occurred_at": datetime.max.replace(tzinfo=UTC)},
            "the first day": {"occurred_at": datetime.min.replace(tzinfo=UTC)},
            "an unknown saga": {"saga_type": "no such saga"},
            "an unknown version": {"saga_version": INT_MAX},
            "a text near Kafka's limit": {"customer_id": "c" * 1_000_000},
            "five megabytes of text": {"customer_id": "c" * BIG_BYTES},
        }

    def _order(self, kind: str, order: Message, *, is_dead: bool) -> Poison:
        topic = f"{order.OWNER}.events"
        outgoing = self._outgoing(
            topic,
            self._written(topic, order),
            order.saga_id.encode(),
            headers=envelope.headers(order, source="a foreign producer", traceparent=new_traceparent()),
        )
        return Poison(kind=f"an order with {kind}", message=outgoing, is_dead=is_dead, saga_id=order.saga_id)
