"""Faust as the stream runtime: it fetches, assigns partitions and keeps time; everything else happens in ``work``.

Faust acknowledges a batch even when its agent failed, and would commit past it. So its commits do nothing here: the
offsets are PostgreSQL's, stored in the transaction of the batch, and whatever goes wrong ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar, cast

import faust
import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from messaging.deferred import RawMessage
from messaging.envelope import Headers

from saga_tracker.reading import SERVICE, Record
from saga_tracker.tables import Place
from saga_tracker.work import Work

BATCH_SIZE_MAX = 1_000
"""Large enough that one commit's fsync is shared by hundreds of messages."""
BATCH_WITHIN_S = 0.02
"""How long a batch gathers; it is the tracker's own share of the time to compensate."""
TICK_EVERY_S = 0.5
SESSION_TIMEOUT_S = 6.0
"""How long the partitions of a worker that was killed stay without one."""
HEARTBEAT_S = 2.0
FETCH_WAIT_S = 0.1
"""A fetch under way leaves out what was just read; with aiokafka's 1.5 s the next messages there would wait as long."""
STALLED_S = 30.0
"""How long messages may wait while none is recorded; a batch takes well under a second, repeating one half a minute."""
REBALANCE_MAX_S = 60.0
EXIT_FAILED = 1

Result = TypeVar("Result")

log = structlog.get_logger()


class Runtime:
    """What the Faust app and the process share: the one thread for blocking work, and the signs of life."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="work")
        self.ticked_at = self.moved_at = self.settled_at = time.monotonic()
        self.assigned: frozenset[Place] = frozenset()

    async def do(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Run blocking work on its thread. Whatever it raises ends the process, before Faust can go on."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, partial(function, *arguments))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            fail(error)
            raise

    async def record(self, batch: Sequence[Record]) -> None:
        """Record a batch."""
        await self.do(self.work.record, batch)
        self.moved_at = time.monotonic()

    def watch(self, *, is_rebalancing: bool, is_caught_up: bool) -> None:
        """End the process where Faust has come to a standstill: after some rebalances it never fetches again."""
        now = time.monotonic()
        if not is_rebalancing:
            self.settled_at = now
        if is_caught_up or is_rebalancing:
            self.moved_at = now
        if now - self.settled_at > REBALANCE_MAX_S:
            fail(Stalled(f"No assignment for {REBALANCE_MAX_S} s after a rebalance began."))
        if now - self.moved_at > STALLED_S:
            fail(Stalled(f"Messages wait, but none was recorded for {STALLED_S} s."))

    def close(self) -> None:
        """Let what is under way finish, publish, and end the thread."""
        self._thread.submit(self.work.finish).result()
        self._thread.shutdown()


class Stalled(Exception):
    """The stream has come to a standstill; only a new process gets it going."""


def fail(error: BaseException) -> None:
    """End the process at once: its supervisor starts it again, at the stored offsets."""
    log.critical("The tracker failed and ends; it begins again at the stored offsets.", exc_info=error)
    os._exit(EXIT_FAILED)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer on its thread, with shorter waits at the broker."""

    logger = driver.logger

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = int(FETCH_WAIT_S * 1000)
        return consumer

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Seek partitions on the consumer's own thread; one that was taken away meanwhile is passed over."""
        await self.call_thread(self._seek_all, offsets)

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assigned = consumer.assignment()
        for tp, offset in offsets.items():
            if tp in assigned:
                consumer.seek(tp, offset)


class Consumer(driver.Consumer):
    """Faust's consumer, with PostgreSQL's offsets in the place of Kafka's."""

    logger = driver.logger
    transport: Transport
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its stored offset; one that is new begins where Kafka has its first."""
        runtime = self.transport.runtime
        assigned = {(tp.topic, tp.partition) for tp in self.assignment()}
        new = await runtime.do(runtime.work.unknown, assigned)
        earliest = await self.earliest_offsets(*(TP(*place) for place in new)) if new else {}
        begins = {(tp.topic, tp.partition): offset for tp, offset in earliest.items()}
        stored = await runtime.do(runtime.work.begin, assigned, begins)
        offsets = {TP(*place): offset for place, offset in stored.items()}
        await self._thread.seek_all(offsets)
        runtime.assigned = frozenset(assigned)
        log.info("Partitions assigned.", partitions=sorted({partition for _, partition in assigned}))
        return offsets

    def end_of(self, place: Place) -> int | None:
        """Return the offset behind a partition's last message, None where it is not known (yet, or any more)."""
        tp = TP(*place)
        if tp not in self.assignment():
            return None
        try:
            return self.highwater(tp)
        except (AssertionError, AttributeError):
            return None  # It was taken away between the two lines: the consumer lives on another thread.

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        return True


class Transport(driver.Transport):
    """Faust's transport, which makes our consumer."""

    Consumer = Consumer
    runtime: Runtime


def create(kafka: str, topics: Iterable[str], runtime: Runtime) -> faust.App:
    """Return the app that follows these topics. Nothing connects before it is started."""
    app = faust.App(
        SERVICE,
        broker=f"kafka://{kafka}",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        key_serializer="raw",
        value_serializer="raw",
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=HEARTBEAT_S,
        broker_max_poll_records=BATCH_SIZE_MAX,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=2 * BATCH_SIZE_MAX,
        stream_wait_empty=False,
        logging_config=None,
    )
    app.in_worker = True
    transport = Transport([app.conf.broker[0]], app, app.loop)
    transport.runtime = runtime
    app.transport = transport
    channel = app.topic(*topics, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(channel, concurrency=1, name="record")
    async def record(stream: faust.StreamT[Any]) -> None:
        batches = cast(faust.Stream[Any], stream).noack_take(BATCH_SIZE_MAX, within=BATCH_WITHIN_S)
        async for batch in batches:
            await runtime.record([record_of(event.message) for event in batch])

    async def tick() -> None:
        consumer = cast(Consumer, app.consumer)
        assigned = runtime.assigned & {(tp.topic, tp.partition) for tp in consumer.assignment()}
        until = recorded_until(assigned, runtime.work.offsets, consumer.end_of, datetime.now(UTC))
        partitions = {partition for _, partition in assigned}
        await runtime.do(runtime.work.tick, until, partitions)
        runtime.ticked_at = time.monotonic()
        runtime.watch(is_rebalancing=app.rebalancing, is_caught_up=len(until) == len(partitions))

    app.timer(interval=TICK_EVERY_S)(tick)
    return app


def recorded_until(
    assigned: Iterable[Place],
    offsets: Mapping[Place, int],
    end_of: Callable[[Place], int | None],
    now: datetime,
) -> dict[int, datetime]:
    """Return the partitions of which everything is recorded as of ``now``: those that are read to their end everywhere.

    One that lags behind keeps its last watermark, and with it its deadlines wait.
    """
    caught_up: dict[int, bool] = {}
    for topic, partition in assigned:
        end = end_of((topic, partition))
        is_at_end = end is not None and offsets.get((topic, partition), -1) >= end
        caught_up[partition] = caught_up.get(partition, True) and is_at_end
    return {partition: now for partition, is_at_end in caught_up.items() if is_at_end}


def record_of(message: Any) -> Record:
    """Return a message of Faust's as a record."""
    return Record(
        raw=RawMessage(
            topic=message.topic,
            partition=message.partition,
            key=message.key,
            value=message.value,
            headers=_headers(message.headers),
        ),
        offset=message.offset,
        timestamp_s=message.timestamp or 0.0,
    )


def _headers(headers: Any) -> Headers:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return tuple((key, value or b"") for key, value in pairs)
