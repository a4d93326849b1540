"""``python -m saga_tracker.rebuild``: bring the tracker's database up to what Kafka has, before the tracker runs on it.

For a database that is empty, or that was restored and is older than Kafka. It reads every topic from the stored
offsets (the beginning, where there is none) up to the present end, and sends nothing. Then it decides about every saga.
What follows and is not on Kafka goes into the outbox, which the tracker publishes when it starts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import Engine

from chassis.postgres import database
from chassis.postgres.transient import utc_now
from chassis.settings import Settings
from chassis.wire.codec import Codec
from chassis.wire.kafka import KafkaLogin
from chassis.wire.registry import RETRIES, RegistryUnavailable, RemoteRegistry
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest import decoding
from saga_tracker.ingest.ordered_reading import NotReadable, OrderedReader
from saga_tracker.ingest.rebuilding import Rebuild, Rebuilt
from saga_tracker.ingest.records import Record
from saga_tracker.ingest.sent_messages import sent_topics
from saga_tracker.model.saga import SERVICE, Definitions, scaled
from saga_tracker.store import consumed_offsets

TIMEOUT_S = 20.0
STOPPED_WITHIN_S = 20.0
"""Three times a session, after which a process that was killed is no member any more."""
POLL_S = 0.5
BATCH_MAX = 500
SHOWN_MAX = 10

Range = tuple[int, int]
"""The first offset to read of a partition, and its end."""


class CannotRebuild(Exception):
    """The database cannot be rebuilt now. The text says why, and what to do."""


def run(
    engine: Engine, login: KafkaLogin, codec: Codec, definitions: Definitions, *, reference_key: bytes | None = None
) -> Rebuilt:
    """Rebuild the database behind ``engine``. Raises CannotRebuild, NotReadable, KafkaException, RegistryUnavailable.

    1. Store the first offset of every partition that has none, of the topics too on which the tracker sends.
    2. Record each partition number, in the order of the times.
    3. Decide about every saga.
    4. Delete the offsets of the topics on which the tracker sends: the rebuild is complete.
    """
    sent = sent_topics(definitions)
    consumer = Consumer({**login.options(), "group.id": SERVICE, "enable.auto.commit": False})
    rebuild, rebuilt = Rebuild(definitions, codec, reference_key=reference_key), Rebuilt()
    try:
        # 1.
        ranges = _begin(engine, consumer, sorted({*decoding.topics(definitions), *sent}), sent)
        # 2.
        for number in sorted({partition for _, partition in ranges}):
            own = {topic: span for (topic, partition), span in ranges.items() if partition == number}
            for batch in _batches(OrderedReader(consumer, number, own).read()):
                with engine.begin() as tx:
                    rebuild.record(tx, batch, now=_time_of(batch[-1]))
    finally:
        consumer.close()
    # 3.
    after: str | None = ""
    while after is not None:
        with engine.begin() as tx:
            after = rebuild.conclude(tx, rebuilt, after=after, limit=BATCH_MAX, now=utc_now())
    # 4.
    with engine.begin() as tx:
        consumed_offsets.discard(tx, sent)
    return rebuilt


def _begin(
    engine: Engine, consumer: Consumer, topics: Sequence[str], sent: Collection[str]
) -> Mapping[tuple[str, int], Range]:
    listed = consumer.list_topics(timeout=TIMEOUT_S).topics
    available = {
        (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=TIMEOUT_S)
        for topic in topics
        for number in listed[topic].partitions
    }
    with engine.begin() as tx:
        stored = consumed_offsets.load(tx, available)
        if any(topic in sent for topic, _ in stored):
            raise CannotRebuild("A rebuild of this database did not complete. Begin again with an empty database.")
        consumed_offsets.begin(tx, {each: first for each, (first, _) in available.items() if each not in stored})
    return {each: (stored.get(each, first), end) for each, (first, end) in available.items()}


def _batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    for record in records:
        batch.append(record)
        if len(batch) == BATCH_MAX:
            yield batch
            batch = []
    if batch:
        yield batch


def _time_of(record: Record) -> datetime:
    """Return Kafka's time of a message. A producer can give it any, so an impossible one is replaced by the present."""
    return record.published_at or utc_now()


def _check_stopped(login: KafkaLogin) -> None:
    """Wait until no process of the tracker is in its group: one that was killed stays for some seconds."""
    admin = AdminClient(login.options())
    give_up_at = time.monotonic() + STOPPED_WITHIN_S
    while members := _members(admin):
        if time.monotonic() > give_up_at:
            raise CannotRebuild(f"The tracker still runs ({', '.join(sorted(members))}). Stop all its processes first.")
        time.sleep(POLL_S)


def _members(admin: AdminClient) -> list[str]:
    """Return the members of the tracker's group, by the old query that blocks until it is answered.

    ``ingest.consumer_progress`` has the reason.
    """
    groups = [group for group in admin.list_groups(SERVICE, timeout=TIMEOUT_S) if group.id == SERVICE]
    return [str(member.client_id) for group in groups for member in group.members]


def main() -> int:
    """Rebuild and print the result. Exit status: 1 where that is impossible now."""
    settings = Settings()
    login = KafkaLogin.of(settings)
    engine = database.create(settings.database_url, settings.database_password_file, application=settings.service)
    codec = Codec(RemoteRegistry(settings.registry_url, retries=RETRIES))
    try:
        _check_stopped(login)
        definitions = scaled(DEFINITIONS, settings.timeout_factor)
        rebuilt = run(engine, login, codec, definitions, reference_key=settings.reference_key)
    except (CannotRebuild, NotReadable, KafkaException, RegistryUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{rebuilt.count} sagas were recorded.\n")
    if rebuilt.different:
        shown = ", ".join(rebuilt.different[:SHOWN_MAX])
        sys.stdout.write(
            f"{len(rebuilt.different)} of them ended otherwise than their messages say, for example {shown}. Look at "
            f"their timelines.\n"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
