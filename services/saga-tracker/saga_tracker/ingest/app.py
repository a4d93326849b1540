"""Faust as the stream runtime: it fetches, assigns partitions and runs timers. The ``worker`` does everything else.

Faust acknowledges a batch even when its agent failed, and would commit past it. So its commits do nothing here: the
offsets are in PostgreSQL, stored in the transaction of the batch, and any error ends the process at once.

Faust's path from the consumer to an agent costs 70 to 100 µs a message. Here the messages of one fetch travel as one
message of Faust, so that this is paid once a batch.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar, cast

import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from chassis.saga.deferred import RawMessage
from chassis.wire.kafka import MECHANISM, KafkaLogin
from saga_tracker.ingest import fetches, positions, record_batches
from saga_tracker.ingest.fetches import PartitionEnds
from saga_tracker.ingest.positions import Available
from saga_tracker.ingest.records import Record
from saga_tracker.ingest.watermarks import End, WatermarkTracker
from saga_tracker.ingest.worker import TrackerWorker
from saga_tracker.model.saga import SERVICE
from saga_tracker.store.consumed_offsets import TopicPartition

BATCH_SIZE_MAX = 1_500
"""So many messages share one commit's fsync; a much larger batch would only take longer to repeat."""
BATCHES_AHEAD_MAX = 1
"""One batch waits while one is recorded, and a third is on its way. Later messages gather at the consumer."""
TICK_EVERY_S = 0.5
OBSERVE_EVERY_S = 0.1
"""How often Kafka's answers are observed. A deadline is judged about two observations after it has passed."""
SESSION_TIMEOUT_S = 6.0
"""How long the partitions of a worker that was killed stay without an owner."""
HEARTBEAT_S = 2.0
FETCH_BYTES_MIN = 262_144
FETCH_WAIT_S = 0.04
"""Kafka answers a fetch once it has that many bytes, several hundred messages, or after that time. A batch gathers
there, and this wait is the tracker's own share of the time to compensate. Each answer costs this process more than a
millisecond, because it names every partition. A fetch under way leaves out the partitions that were just read, so with
aiokafka's default of 1.5 s the next messages there would wait as long."""
FETCH_BYTES_MAX = 65_536
"""Of each partition, and one message at least. Sixty partitions of a mebibyte each would fill this process's memory."""
STALLED_S = 30.0
"""How long messages may wait while none is recorded. A batch takes well under a second, repeating one half a minute."""
REBALANCE_MAX_S = 60.0
REJOIN_WITHIN_S = 15.0
"""How long a group waits for a member that does not return to a rebalance. No member reads meanwhile."""
EXIT_FAILED = 1

Result = TypeVar("Result")

log = structlog.get_logger()


class Runtime:
    """State that the Faust app and the process share: the one thread for blocking calls, and the signs of life."""

    def __init__(self, worker: TrackerWorker) -> None:
        self.worker = worker
        self.watermarks = WatermarkTracker()
        self.ends = PartitionEnds()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="worker")
        self.ticked_at = self.moved_at = self.settled_at = time.monotonic()
        self.assigned: frozenset[TopicPartition] = frozenset()
        self.has_joined = False

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run a blocking call on its thread. Any error ends the process, before Faust can continue."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *arguments))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            fail(error)
            raise

    async def record(self, fetched: Sequence[Any]) -> None:
        """Record what was fetched, in one transaction."""
        await self.run(lambda: self.worker.record([record_of(record) for record in fetched]))
        self.moved_at = time.monotonic()

    def watch(self, *, is_rebalancing: bool, is_caught_up: bool) -> None:
        """End the process where Faust stands still: after some rebalances it never fetches again.

        Before its first assignment Faust counts as rebalancing, whatever it reports.
        """
        now = time.monotonic()
        if not is_rebalancing and self.has_joined:
            self.settled_at = now
        if is_caught_up or is_rebalancing:
            self.moved_at = now
        if now - self.settled_at > REBALANCE_MAX_S:
            fail(Stalled(f"No assignment for {REBALANCE_MAX_S} s after a rebalance began; the process restarts."))
        if now - self.moved_at > STALLED_S:
            fail(Stalled(f"Messages wait, but none was recorded for {STALLED_S} s; the process restarts."))

    def close(self) -> None:
        """Finish the call under way, publish, and end the thread."""
        self._thread.submit(self.worker.finish).result()
        self._thread.shutdown()


class Stalled(Exception):
    """The stream stands still; only a new process starts it again."""


def fail(error: BaseException) -> None:
    """End the process at once. Its supervisor restarts it at the stored offsets."""
    log.critical("The tracker failed and ends; the next process continues at the stored offsets.", exc_info=error)
    os._exit(EXIT_FAILED)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer on its thread, with shorter waits at the broker and any header's name."""

    logger = driver.logger

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        record_batches.install()
        fetches.install()
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = int(FETCH_WAIT_S * 1000)
        consumer._fetch_min_bytes = FETCH_BYTES_MIN
        return consumer

    def states(self) -> Mapping[Any, Any]:
        """Return aiokafka's states of the partitions that are assigned now; they change on the consumer's thread."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        states: Mapping[Any, Any] = {} if assignment is None else assignment._tp_state
        return states

    def renew(self, password: str) -> None:
        """Log in with this password from now on; aiokafka itself would always use the first one."""
        self._ensure_consumer()._client._sasl_plain_password = password

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Seek partitions on the consumer's own thread; one that was revoked meanwhile is skipped."""
        await self.call_thread(self._seek_all, offsets)

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in offsets.items():
            if tp in assigned:
                consumer.seek(tp, offset)


class Consumer(driver.Consumer):
    """Faust's consumer with the offsets that PostgreSQL holds, instead of Kafka's."""

    logger = driver.logger
    transport: Transport
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield the records of one fetch as one message, with the partition and offset of the first record.

        Where Faust has stopped the flow meanwhile, they are fetched again later.
        """
        fetched, _active = await self._wait_next_records(timeout)
        if not fetched or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        records = [record for batch in fetched.values() for record in batch]
        if records:
            yield as_one(records, self.app.consumer_generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its stored offset, and a new one to Kafka's earliest offset."""
        runtime = self.transport.runtime
        assigned = {(tp.topic, tp.partition) for tp in self.assignment()}
        await runtime.run(positions.check_topics, assigned, self.transport.topics)
        stored = await runtime.run(runtime.worker.stored, assigned)
        next_offsets = await runtime.run(runtime.worker.begin, stored, await self.available(assigned))
        offsets = {TP(*each): offset for each, offset in next_offsets.items()}
        await self._thread.seek_all(offsets)
        runtime.assigned, runtime.has_joined = frozenset(assigned), True
        log.info("Partitions assigned.", partitions=sorted({partition for _, partition in assigned}))
        return offsets

    async def available(self, topic_partitions: Collection[TopicPartition]) -> dict[TopicPartition, Available]:
        """Ask Kafka what it has of these partitions."""
        partitions = [TP(*each) for each in topic_partitions]
        if not partitions:
            return {}
        earliest = await self.earliest_offsets(*partitions)
        ends = await self.highwaters(*partitions)
        return {(tp.topic, tp.partition): Available(earliest=earliest[tp], end=ends[tp]) for tp in partitions}

    async def check_recorded(self, assigned: Collection[TopicPartition]) -> None:
        """End the process where Kafka no longer has what is recorded of these partitions.

        A new leader may answer a fetch with an end that is too low for a moment. So what a fetch reported is only a
        reason to ask for the ends.
        """
        runtime = self.transport.runtime
        recorded = {each: runtime.worker.offsets.get(each, 0) for each in assigned}
        ends = self.ends(assigned)
        doubtful = {each: recorded[each] for each, end in ends.items() if end.offset < recorded[each]}
        if doubtful:
            await runtime.run(runtime.worker.check, doubtful, await self.available(doubtful))

    def on_buffer_full(self, tp: TP) -> None:
        """Pause nothing. A batch holds many partitions, and Faust would pause its first one as long as a backlog lasts.

        The full queue holds the next batch back anyway.
        """

    def ends(self, assigned: Collection[TopicPartition]) -> dict[TopicPartition, End]:
        """Return where these partitions end; one of which that is not known, or no longer, is missing."""
        if not assigned:
            return {}  # There may be no consumer yet.
        return self.transport.runtime.ends.read(self._thread.states(), assigned)

    def renew_login(self) -> None:
        """Use the password that the file holds now for the next connection."""
        self._thread.renew(self.transport.login.password())

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True


class Transport(driver.Transport):
    """Faust's transport, which makes our consumer."""

    Consumer = Consumer
    runtime: Runtime
    login: KafkaLogin
    topics: frozenset[str]


def create(kafka: KafkaLogin, topics: Iterable[str], runtime: Runtime) -> faust.App:
    """Return the app that consumes these topics. Nothing connects before it is started."""
    topics = frozenset(topics)
    app = _configured(kafka, topics, runtime)
    # With acks Faust would keep every offset between two messages as a gap. A message is a whole fetch here, so each
    # has a gap, and none is ever closed, because Faust commits no offsets.
    channel = app.topic(*topics, schema=_Records(), acks=False)

    @app.agent(channel, concurrency=1, name="record")
    async def record(stream: faust.StreamT[Any]) -> None:
        async for records in stream:
            await runtime.record(records)

    async def observe() -> None:
        consumer = cast(Consumer, app.consumer)
        assigned = _assigned(consumer, runtime)
        ends, offsets = consumer.ends(assigned), runtime.worker.offsets
        for each in assigned:
            runtime.watermarks.observe(each, ends.get(each), offsets.get(each, 0))

    async def tick() -> None:
        consumer = cast(Consumer, app.consumer)
        assigned = _assigned(consumer, runtime)
        consumer.renew_login()
        await consumer.check_recorded(assigned)
        complete = positions.complete(assigned, topics)
        partitions = {partition for _, partition in complete}
        await runtime.run(runtime.worker.tick, runtime.watermarks.recorded_until(complete), partitions)
        runtime.ticked_at = time.monotonic()
        # A partition that is assigned but was never sought is not read, so nothing can be known to wait there.
        is_caught_up = len(assigned) == len(consumer.assignment()) and runtime.watermarks.is_caught_up(assigned)
        runtime.watch(is_rebalancing=app.rebalancing, is_caught_up=is_caught_up)

    app.timer(interval=OBSERVE_EVERY_S)(observe)
    app.timer(interval=TICK_EVERY_S)(tick)
    return app


def _configured(kafka: KafkaLogin, topics: frozenset[str], runtime: Runtime) -> faust.App:
    """Return a Faust app with our transport and without an agent."""
    app = _App(
        SERVICE,
        broker=f"kafka://{kafka.address}",
        broker_credentials=_credentials(kafka),
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_rebalance_timeout=REJOIN_WITHIN_S,
        broker_max_poll_records=BATCH_SIZE_MAX,
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=BATCHES_AHEAD_MAX,
        stream_wait_empty=False,
        logging_config=None,
    )
    app.in_worker = True
    app.boot_strategy.enable_kafka_producer = False
    transport = Transport([app.conf.broker[0]], app, app.loop)
    transport.runtime = runtime
    transport.login = kafka
    transport.topics = topics
    app.transport = transport
    return app


def _credentials(login: KafkaLogin) -> faust.SASLCredentials | None:
    if login.password_file is None:
        return None
    context = None if login.ca_file is None else ssl.create_default_context(cafile=str(login.ca_file))
    return faust.SASLCredentials(
        username=login.user, password=login.password(), mechanism=MECHANISM, ssl_context=context
    )


def _assigned(consumer: Consumer, runtime: Runtime) -> frozenset[TopicPartition]:
    """Return the partitions that are assigned now and were when the stored offsets were loaded."""
    return runtime.assigned.intersection(consumer.assignment())


class _App(faust.App):
    """Faust's app without its folder: there are no tables, and a process may have no writable folder."""

    def _create_directories(self) -> None:
        return None


class _Records(faust.Schema[None, Any]):
    """Passes the records of one fetch on; there is nothing to decode."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> None:
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:
        return message.value


def as_one(records: Any, generation_id: int) -> tuple[TP, ConsumerMessage]:
    """Return the records of one fetch as one message of Faust, at the partition and offset of the first record."""
    first = records[0]
    tp = TP(first.topic, first.partition)
    message = ConsumerMessage(
        *(tp.topic, tp.partition, first.offset, time.time(), 0),
        headers=None,
        key=None,
        value=records,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        tp=tp,
        generation_id=generation_id,
    )
    return tp, message


def record_of(record: Any) -> Record:
    """Return a record of aiokafka as one of ours."""
    raw = RawMessage(
        topic=record.topic,
        partition=record.partition,
        key=record.key,
        value=record.value,
        headers=tuple([(name, value or b"") for name, value in record.headers]),
    )
    return Record(raw=raw, offset=record.offset, timestamp_ms=record.timestamp)
