"""Messages that a service must not handle: one kind for each rule of :mod:`chassis.saga.routing`.

Others may write on our topics: another team, an older or a newer release, a tool. Each message here is a real one of
the schedule with one thing wrong, under the id of a saga that no customer started. Whatever handles it does harm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import headers
from messages.contract import Message
from messages.saga import FenceSaga
from proof.broker import Broker
from proof.schedule import Schedule
from proof.service import Service

COUNTS = (0, 0, 1, 2)
"""The number of such messages in a schedule: every second schedule has none, and costs nothing more."""
WITHIN_S = 5.0
LATER_VERSION = 2
TRACEPARENT = b"00-" + b"0" * 32 + b"-" + b"2" * 16 + b"-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class UndeliverableMessage:
    """A message that was published, and the services that must send it to their dead letters."""

    kind: str
    message: Message
    topic: str
    key: str
    payload: bytes
    readers: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class UndeliverableMessages:
    """Publishes undeliverable messages, and keeps them for the checks. ``counts`` has them by kind."""

    schedule: Schedule
    broker: Broker
    codec: Codec
    services: Sequence[Service]
    published: list[UndeliverableMessage] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def saga_ids(self) -> frozenset[str]:
        """The sagas that these messages name, in their key or in themselves."""
        return frozenset(saga_id for each in self.published for saga_id in (each.key, each.message.saga_id))

    def plan(self) -> bool:
        """Plan the publication of some; return whether there are any."""
        schedule = self.schedule
        count = schedule.chance.choice(COUNTS)
        for _ in range(count):
            schedule.at(schedule.now + schedule.within(WITHIN_S), self._publish)
        return bool(count)

    def _publish(self) -> None:
        kind = self.schedule.chance.choice(tuple(KINDS))
        made = KINDS[kind](self)
        self.published.append(made)
        self.counts[kind] += 1
        self.schedule.note(f"{kind} on {made.topic}: {made.message.FULL_NAME.rpartition('.')[2]}", made.key)
        row = OutboxRow(
            id=made.message.message_id,
            topic=made.topic,
            saga_id=made.key,
            type=made.message.FULL_NAME,
            payload=made.payload,
            headers=headers(made.message, source="elsewhere", traceparent=TRACEPARENT),
            partition=None,
        )
        self.broker.publish(row, now=self.schedule.now)

    # The kinds

    def unknown_command(self) -> UndeliverableMessage:
        """Make a command that its service has no handler for."""
        service = self.schedule.chance.choice(self.services)
        others = [
            compensation.on
            for other in self.services
            for compensation in other.handlers.compensations
            if compensation.on not in service.handlers.commands
        ]
        command: Any = self.schedule.chance.choice(others)
        message = command(**self._envelope(), step="", attempt=1, reason="sent to the wrong service")
        return self._made("an unknown command", message, f"{service.name}.commands", [service])

    def misplaced_message(self) -> UndeliverableMessage:
        """Make an event among the commands of the service that waits for it, or a command among events."""
        event, topic, readers = self._event()
        if self.schedule.chance.random() < 0.5:
            reader = self.schedule.chance.choice(readers)
            return self._made("a message on the wrong topic", event, f"{reader.name}.commands", [reader])
        fence = FenceSaga(**self._envelope(), steps=(), attempt=1, reason="sent among events")
        readers = [each for each in self.services if topic in each.topics and each.handlers.for_message(FenceSaga)]
        return self._made("a message on the wrong topic", fence, topic, readers)

    def foreign_id(self) -> UndeliverableMessage:
        """Make an event whose saga id or message id has another form than ours."""
        event, topic, readers = self._event()
        which = self.schedule.chance.choice(("saga_id", "message_id"))
        foreign: Any = {which: f"order {getattr(event, which)}"}
        return self._made("a foreign id", replace(event, **foreign), topic, readers)

    def foreign_key(self) -> UndeliverableMessage:
        """Make an event under another key than its saga's id."""
        event, topic, readers = self._event()
        return self._made("a foreign key", event, topic, readers, key=self.schedule.new_id())

    def unknown_saga(self) -> UndeliverableMessage:
        """Make an event of a version of the saga that this release lacks."""
        event, topic, readers = self._event()
        return self._made("an unknown saga", replace(event, saga_version=LATER_VERSION), topic, readers)

    def _event(self) -> tuple[Message, str, Sequence[Service]]:
        """Return a real event of a saga that no customer started, its topic, and the services that wait for it."""
        models = {type(each): each for each in map(self._decoded, self.broker.all()) if each is not None}
        waiting = {each: [one for one in self.services if each in one.handlers.events] for each in models}
        event_type = self.schedule.chance.choice([each for each in models if waiting[each]])
        envelope = {**self._envelope(), "saga_type": models[event_type].saga_type}
        event = replace(models[event_type], **envelope)
        return event, f"{event_type.OWNER}.events", waiting[event_type]

    def _decoded(self, record: Any) -> Message | None:
        """Return an event of a step; those of the tracker end a saga, and what they say needs no effect."""
        topic = record.raw.topic
        is_of_step = topic.endswith(".events") and topic != "saga.events"
        return self.codec.decode(record.raw.value) if is_of_step else None

    def _envelope(self) -> dict[str, Any]:
        return {
            "message_id": self.schedule.new_id(), "saga_id": self.schedule.new_id(), "saga_type": "order",
            "saga_version": 1, "causation_id": None, "occurred_at": self.schedule.now,
        }  # fmt: skip

    def _made(
        self, kind: str, message: Message, topic: str, readers: Sequence[Service], *, key: str | None = None
    ) -> UndeliverableMessage:
        return UndeliverableMessage(
            kind=kind,
            message=message,
            topic=topic,
            key=message.saga_id if key is None else key,
            payload=self.codec.encode(topic, message),
            readers=tuple(each.name for each in readers),
        )


KINDS: Mapping[str, Callable[[UndeliverableMessages], UndeliverableMessage]] = {
    "an unknown command": UndeliverableMessages.unknown_command,
    "a message on the wrong topic": UndeliverableMessages.misplaced_message,
    "a foreign id": UndeliverableMessages.foreign_id,
    "a foreign key": UndeliverableMessages.foreign_key,
    "an unknown saga": UndeliverableMessages.unknown_saga,
}
"""A message for each rule, by what is wrong with it."""
