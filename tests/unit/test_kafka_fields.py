"""What the Kafka clients hand over for any record that Kafka accepts, on the broker that librdkafka has for tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka.errors import CorruptRecordException  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from chassis.process.intake import raw_of
from chassis.saga.dead_letters import HEADER_OVERHEAD_BYTES, HEADERS_BYTES_MAX, DeadLetter, dead_letter_row
from chassis.saga.deferred import RawMessage
from chassis.wire.envelope import header
from chassis.wire.kafka import HEADERS_READ_MAX, time_of
from saga_tracker.ingest.record_batches import RecordBatches
from support.librdkafka import RawRecord, publish_raw

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 20.0
LETTER = DeadLetter(service="inventory", step=None, reason="unreadable", attempts=1)


class Name(str):
    """A header's name that is sent as these bytes."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("latin-1")


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    owner = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    (only,) = owner.list_topics("t", timeout=TIMEOUT_S).brokers.values()
    yield f"{only.host}:{only.port}"
    owner.close()


def consumed(broker: str, topic: str, records: Sequence[RawRecord]) -> list[RawMessage]:
    """Publish the records and return what a worker takes."""
    publish_raw({"bootstrap.servers": broker}, records)
    consumer = Consumer({"bootstrap.servers": broker, "group.id": topic, "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    try:
        messages = consumer.consume(len(records), TIMEOUT_S)
        assert not [error for message in messages if (error := message.error())]
        return [raw_of(message) for message in messages]
    finally:
        consumer.close()


def test_a_header_whose_name_is_no_utf8_leaves_the_key_and_the_value(broker: str) -> None:
    topic = "names"
    headers: tuple[tuple[bytes, bytes | None], ...] = ((b"a", b"1"), (b"\xff\xfe", b"2"), (b"c", None))
    bad = RawRecord(topic=topic, partition=0, key=b"k", value=b"v", headers=headers)
    good = RawRecord(topic=topic, partition=0, key=b"k", value=b"v", headers=((b"a", None),))
    raw, after = consumed(broker, topic, [bad, good])
    assert (raw.key, raw.value, raw.headers) == (b"k", b"v", ())
    assert "not UTF-8" in raw.headers_flaw
    assert (after.headers, after.headers_flaw) == ((("a", b""),), "")
    row = dead_letter_row(raw, LETTER, row_id="id")
    assert row.payload == b"v"
    assert b"not UTF-8" in (header(row.headers, "baraza_cut") or b"")


@pytest.mark.parametrize("name", [b"stra\xdfe", b"\xed\xa0\x80"], ids=["Latin-1", "a surrogate"])
def test_such_a_name_is_found_in_a_loop_that_runs_hot(broker: str, name: bytes) -> None:
    """The interpreter specializes calls of a method after some rounds, and checks their results no more."""
    topic = f"hot-{name.hex()}"
    good = RawRecord(topic=topic, partition=0, key=b"k", value=b"v", headers=((b"a", b"1"),))
    bad = RawRecord(topic=topic, partition=0, key=b"k", value=b"v", headers=((name, b"1"),))
    raws = consumed(broker, topic, [*([good] * 200), *([bad, good] * 50)])
    assert len(raws) == 300
    assert [bool(raw.headers_flaw) for raw in raws] == [False] * 200 + [True, False] * 50


def test_absent_empty_and_repeated_fields_are_read_as_they_are(broker: str) -> None:
    topic = "fields"
    twice = ((b"h", b"1"), (b"h", b"2"), (b"", b""), ("é".encode(), None))
    records = [
        RawRecord(topic=topic, partition=0, key=None, value=None),
        RawRecord(topic=topic, partition=0, key=b"", value=b"", headers=twice),
        RawRecord(topic=topic, partition=0, key=b"\xff", value=b"\x00", timestamp_ms=-(10**15)),
    ]
    absent, empty, binary = consumed(broker, topic, records)
    assert (absent.key, absent.value, absent.headers) == (None, None, ())
    assert (empty.key, empty.value) == (b"", b"")
    assert empty.headers == (("h", b"1"), ("h", b"2"), ("", b""), ("é", b""))
    assert (binary.key, binary.value) == (b"\xff", b"\x00")


def test_of_more_headers_than_librdkafka_reads_the_key_and_the_value_are_left(broker: str) -> None:
    topic = "counts"
    most, more = (
        RawRecord(topic=topic, partition=0, key=b"k", value=b"v", headers=((b"", b""),) * count)
        for count in (HEADERS_READ_MAX, HEADERS_READ_MAX + 1)
    )
    read, unread = consumed(broker, topic, [most, more])
    assert len(read.headers) == HEADERS_READ_MAX
    assert (unread.key, unread.value, unread.headers, unread.headers_flaw) == (b"k", b"v", (), "")


def test_a_dead_letter_has_no_more_headers_than_a_client_reads() -> None:
    kept = (("", b""),) * (HEADERS_BYTES_MAX // HEADER_OVERHEAD_BYTES)
    row = dead_letter_row(RawMessage(topic="t", partition=0, key=b"k", value=b"v", headers=kept), LETTER, row_id="id")
    assert header(row.headers, "baraza_cut") is None
    assert len(kept) < len(row.headers) < HEADERS_READ_MAX


def test_a_dead_letter_of_very_many_empty_headers_is_cut() -> None:
    raw = RawMessage(topic="t", partition=0, key=b"k", value=b"v", headers=(("", b""),) * HEADERS_BYTES_MAX)
    row = dead_letter_row(raw, LETTER, row_id="id")
    assert len(row.headers) < 20
    assert (header(row.headers, "baraza_cut") or b"").startswith(b"headers: none of")


@pytest.mark.parametrize("timestamp_ms", [-(10**15), -(2**63), -1, 0, 2**63 - 1, 10**15])
def test_a_timestamp_out_of_range_is_no_time(timestamp_ms: int) -> None:
    assert time_of(timestamp_ms) is None


def test_a_timestamp_in_range_is_a_time() -> None:
    at = datetime(2026, 11, 28, 21, 0, 0, 123_000, tzinfo=UTC)
    assert time_of(int(at.timestamp() * 1000)) == at


@pytest.mark.parametrize("codec", [0, 1], ids=["plain", "gzip"])
def test_the_tracker_reads_a_batch_with_a_header_whose_name_is_no_utf8(codec: int) -> None:
    odd = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, -1, 100_000)
    odd.append(0, -(10**15), b"k", b"v", [("a", b"1"), (Name("\xff\xfe"), None), ("é", b"2")])
    odd.append(1, 5, None, None, [])
    plain = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 100_000)
    plain.append(0, 7, b"k", b"v", [("a", b"1")])
    batches = RecordBatches(bytes(odd.build()) + bytes(plain.build()))
    read = []
    while batches.has_next():
        batch = batches.next_batch()
        assert batch.validate_crc()
        read += [(each.offset, each.timestamp, each.key, each.value, each.headers) for each in batch]
    assert batches.next_batch() is None
    assert read == [
        (0, -(10**15), b"k", b"v", [("a", b"1"), ("\\xff\\xfe", None), ("é", b"2")]),
        (1, 5, None, None, []),
        (0, 7, b"k", b"v", [("a", b"1")]),
    ]


def test_no_call_of_the_clients_own_method_reads_headers() -> None:
    """It returns NULL pointers for a name that is not UTF-8, and Python checks no call that it has specialized."""
    readers = {
        str(path.relative_to(ROOT))
        for package in ("chassis", "services", "cli", "stack", "proof", "simulators", "tests", "docs")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "headers"
        if not (node.args or node.keywords)
    }
    assert not readers


def test_a_corrupt_batch_stays_an_error() -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 100_000)
    builder.append(0, 7, b"k", b"v" * 50, [("a", b"1")])
    data = bytearray(builder.build())
    data[-20] = 0xFF
    data[61] = 0x7F
    with pytest.raises((CorruptRecordException, IndexError)):
        list(RecordBatches(bytes(data)).next_batch())
