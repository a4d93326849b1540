"""How the tracker uses Faust: what waits holds back what follows, pauses nothing, and nothing of it is kept."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from chassis.wire.kafka import KafkaLogin
from faust.types import TP, ConsumerMessage
from saga_tracker.ingest.app import Consumer, Runtime, as_one, create

TOPICS = ("a.events", "b.events")
PLACES = [TP(topic, partition) for topic in TOPICS for partition in range(3)]
TURNS = 50
"""So many turns of the loop are more than anything takes that does not wait."""


def fetch(number: int) -> ConsumerMessage:
    """Return what one fetch brought, as the consumer hands it on."""
    place = PLACES[number % len(PLACES)]
    record = SimpleNamespace(topic=place.topic, partition=place.partition, offset=500 * number, value=number)
    _, message = as_one([record], 0)
    return message


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def _hand_on(fetches: int) -> None:
    app: Any = create(KafkaLogin(address="127.0.0.1:1", user="", password_file=None), TOPICS, cast(Runtime, None))
    (agent,) = app.agents.values()
    channel = agent.channel.clone(is_iterator=True)
    consumer = cast(Consumer, app.consumer)
    app.topics._topics.add(channel)
    await app.topics._update_indices()
    await app.topics.on_partitions_assigned(set(PLACES))
    app.flow_control.resume()
    active = consumer._get_active_partitions()
    active.update(PLACES)

    for number in range(fetches):
        handing_on = asyncio.ensure_future(app.topics.on_message(fetch(number)))
        await _turns()
        assert handing_on.done() == (number == 0), "one waits, and the next is held back until there is room"
        assert active == set(PLACES), "no partition is left out of the fetches that follow"
        if number:
            event = channel.queue.get_nowait()
            assert [record.value for record in event.value] == [number - 1]
            await handing_on

    assert not any(app.topics.acks_enabled_for(topic) for topic in TOPICS), "so that no book of gaps grows"
    assert not consumer._unacked_messages
    consumer._thread.thread_loop.close()


def test_a_batch_that_waits_holds_the_next_one_back_and_pauses_no_partition() -> None:
    asyncio.run(_hand_on(4 * len(PLACES)))
