"""How the tracker uses Faust: a waiting batch holds the next one back, pauses no partition, and leaves no trace."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from faust.types import TP, ConsumerMessage

from chassis.wire.kafka import KafkaLogin
from saga_tracker.ingest.app import Consumer, Runtime, as_one, create

TOPICS = ("a.events", "b.events")
PARTITIONS = [TP(topic, partition) for topic in TOPICS for partition in range(3)]
ITERATIONS = 50
"""More iterations of the event loop than anything takes that does not wait."""


def fetch(number: int) -> ConsumerMessage:
    """Return the records of one fetch as the consumer passes them on."""
    tp = PARTITIONS[number % len(PARTITIONS)]
    record = SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=500 * number, value=number)
    _, message = as_one([record], 0)
    return message


async def _iterate() -> None:
    for _ in range(ITERATIONS):
        await asyncio.sleep(0)


async def _pass_on(fetches: int) -> None:
    app: Any = create(KafkaLogin(address="127.0.0.1:1", user="", password_file=None), TOPICS, cast(Runtime, None))
    (agent,) = app.agents.values()
    channel = agent.channel.clone(is_iterator=True)
    consumer = cast(Consumer, app.consumer)
    app.topics._topics.add(channel)
    await app.topics._update_indices()
    await app.topics.on_partitions_assigned(set(PARTITIONS))
    app.flow_control.resume()
    active = consumer._get_active_partitions()
    active.update(PARTITIONS)

    for number in range(fetches):
        passing_on = asyncio.ensure_future(app.topics.on_message(fetch(number)))
        await _iterate()
        assert passing_on.done() == (number == 0), "one waits, and the next is held back until the queue has room"
        assert active == set(PARTITIONS), "no partition is left out of the fetches that follow"
        if number:
            event = channel.queue.get_nowait()
            assert [record.value for record in event.value] == [number - 1]
            await passing_on

    assert not any(app.topics.acks_enabled_for(topic) for topic in TOPICS), "so that no list of gaps grows"
    assert not consumer._unacked_messages
    consumer._thread.thread_loop.close()


def test_a_batch_that_waits_holds_the_next_one_back_and_pauses_no_partition() -> None:
    asyncio.run(_pass_on(4 * len(PARTITIONS)))
