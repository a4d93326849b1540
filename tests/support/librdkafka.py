"""Publishes what Kafka accepts and the client for Python does not send: header names that are no UTF-8."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka

PRODUCER = 0
COPY = 2
END, TOPIC, PARTITION, VALUE, KEY, FLAGS, TIMESTAMP, HEADERS = 0, 1, 3, 4, 5, 7, 8, 10
ERROR_LENGTH = 512
FLUSH_MS = 20_000
BYTES_MAX = 64 * 1024 * 1024
ON_DELIVERY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p)
"""The report's first member is the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRecord:
    """One record to publish: header names are bytes, and a header may have no value. No ``timestamp_ms`` is now."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[bytes, bytes | None], ...] = ()
    timestamp_ms: int = 0


def _library() -> Any:
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    (found,) = folder.glob("librdkafka*")
    library = ctypes.CDLL(str(found))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def publish_raw(options: dict[str, Any], records: Iterable[RawRecord]) -> None:
    """Publish these records in order and return when Kafka has acknowledged all of them."""
    library = _library()
    error = ctypes.create_string_buffer(ERROR_LENGTH)
    failed: list[int] = []

    def note(_client: Any, report: Any, _opaque: Any) -> None:
        if report.contents.value:
            failed.append(report.contents.value)

    callback = ON_DELIVERY(note)
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    limits = {"message.max.bytes": BYTES_MAX, "enable.idempotence": "true", "compression.type": "gzip"}
    for name, value in {**options, **limits}.items():
        outcome = library.rd_kafka_conf_set(settings, name.encode(), str(value).encode(), error, ERROR_LENGTH)
        assert outcome == 0, error.value
    library.rd_kafka_conf_set_dr_msg_cb(settings, callback)
    client = ctypes.c_void_p(library.rd_kafka_new(PRODUCER, settings, error, ctypes.c_size_t(ERROR_LENGTH)))
    assert client.value, error.value
    try:
        for record in records:
            _produce(library, client, record)
        library.rd_kafka_flush(client, FLUSH_MS)
        left = library.rd_kafka_outq_len(client)
    finally:
        library.rd_kafka_destroy(client)
    assert not left, f"Kafka did not acknowledge {left} records"
    assert not failed, f"Kafka refused records, with librdkafka's errors {failed}"


def _produce(library: Any, client: Any, record: RawRecord) -> None:
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(ctypes.c_size_t(len(record.headers))))
    for name, content in record.headers:
        size = -1 if content is None else len(content)
        library.rd_kafka_header_add(headers, name, ctypes.c_ssize_t(len(name)), content, ctypes.c_ssize_t(size))
    key, value = record.key, record.value
    outcome = library.rd_kafka_producev(
        client,
        *(ctypes.c_int(TOPIC), record.topic.encode()),
        *(ctypes.c_int(PARTITION), ctypes.c_int32(record.partition)),
        *(ctypes.c_int(KEY), key, ctypes.c_size_t(len(key or b""))),
        *(ctypes.c_int(VALUE), value, ctypes.c_size_t(len(value or b""))),
        *(ctypes.c_int(FLAGS), ctypes.c_int(COPY)),
        *(ctypes.c_int(TIMESTAMP), ctypes.c_int64(record.timestamp_ms)),
        *(ctypes.c_int(HEADERS), headers),
        ctypes.c_int(END),
    )
    assert outcome == 0, f"librdkafka's error {outcome}"
