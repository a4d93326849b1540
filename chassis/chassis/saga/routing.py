"""Routes raw messages to handlers. The worker and the simulation both route through these lines.

Six rules keep out messages that a service must not handle, and a seventh keeps out rows whose handler is gone. A
message that breaks one is :class:`Undeliverable`. Routing never touches Kafka, a thread or a database: raw messages
come in, :class:`Work` goes out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from chassis.saga.deferred import Deferral, RawMessage, is_command_topic
from chassis.saga.evidence import StoredEvidence
from chassis.saga.handlers import Handlers
from chassis.saga.triggers import StepKey
from chassis.saga.unit_of_work import AwaitedResult, CallResult, Delivery, Undeliverable
from chassis.saga.waiting import UNPROCESSABLE
from chassis.wire.codec import Undecodable
from chassis.wire.envelope import ID
from messages.contract import Message
from messages.saga import StepAwaited

OF_EVERY_SAGA = (StepAwaited,)
"""Events by which a service may follow another one's step, in whatever saga that step is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unprocessable:
    """A message that this service cannot decode or must not handle, and the reason.

    ``row`` is its deferral, None for a message that comes from Kafka.
    """

    raw: RawMessage
    reason: str
    detail: str = ""
    row: Deferral | None = None

    @property
    def saga_id(self) -> str:
        """The saga that its key names, if it names one."""
        return (self.raw.key or b"").decode("utf-8", "replace").replace("\x00", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one transaction is to handle. ``unwanted`` are parked messages that have no handler here."""

    deliveries: Sequence[tuple[str, Delivery]] = ()
    due: Sequence[tuple[str, Delivery]] = ()
    unprocessable: Sequence[Unprocessable] = ()
    unwanted: Sequence[Deferral] = ()
    results: Sequence[CallResult] = ()
    awaited_results: Sequence[AwaitedResult] = ()
    awaited_due: Sequence[StepKey] = ()
    evidence: Sequence[StoredEvidence] = ()

    def __len__(self) -> int:
        messages = (self.deliveries, self.due, self.unprocessable, self.unwanted, self.results)
        return sum(map(len, (*messages, self.awaited_results, self.awaited_due, self.evidence)))

    @property
    def saga_ids(self) -> set[str]:
        """The sagas whose effects the transaction must lock."""
        found = {delivery.message.saga_id for _, delivery in (*self.deliveries, *self.due)}
        found |= {each.saga_id for each in self.unprocessable} | {row.saga_id for row in self.unwanted}
        found |= {result.call.delivery.message.saga_id for result in self.results}
        found |= {result.call.saga_id for result in self.awaited_results}
        return found | {saga_id for saga_id, _ in self.awaited_due} | {each.saga_id for each in self.evidence}

    def pieces(self) -> list[Work]:
        """Return the same work piece by piece, so that a poison message harms only itself."""
        return [
            *(Work(results=(result,)) for result in self.results),
            *(Work(awaited_results=(result,)) for result in self.awaited_results),
            *(Work(evidence=(each,)) for each in self.evidence),
            *(Work(awaited_due=(key,)) for key in self.awaited_due),
            *(Work(due=(each,)) for each in self.due),
            *(Work(deliveries=(each,)) for each in self.deliveries),
            *(Work(unprocessable=(each,)) for each in self.unprocessable),
            *(Work(unwanted=(each,)) for each in self.unwanted),
        ]


class Decoder(Protocol):
    """What routing needs of :class:`chassis.wire.codec.Codec`; the simulation's fails now and then."""

    def type_of(self, payload: bytes | None) -> type[Message] | None:
        """Return the message's type, None for an unknown one. Raises Undecodable."""
        ...

    def decode(self, payload: bytes | None) -> Message:
        """Return the message. Raises Undecodable."""
        ...


class Router:
    """Finds the handlers of raw messages in one service."""

    def __init__(self, service: str, handlers: Handlers, decoder: Decoder) -> None:
        self._service = service
        self._handlers = handlers
        self._decoder = decoder
        self._commands = handlers.commands
        self._sagas = handlers.sagas
        self._saga_types = {saga_type for saga_type, _ in handlers.sagas}

    def route(self, raws: Sequence[RawMessage], rows: Sequence[Deferral] = ()) -> Work:
        """Route messages from Kafka and deferred ones. An event from Kafka that has no handler here is left out."""
        deliveries: list[tuple[str, Delivery]] = []
        unprocessable: list[Unprocessable] = []
        for raw in raws:
            try:
                found = self._find_handlers(raw)
            except (Undecodable, Undeliverable) as error:
                unprocessable.append(Unprocessable(raw=raw, reason=str(error), detail=error.detail))
            else:
                deliveries.extend((name, Delivery(message=message, raw=raw)) for name, message in found)
        again = self._route_again(rows)
        return replace(again, deliveries=deliveries, unprocessable=(*again.unprocessable, *unprocessable))

    def concerns(self, topic: str, payload: bytes | None) -> bool:
        """Return whether a message from Kafka is for this service: it has a handler here, or must be refused.

        A topic carries the events of every saga, so most of a service's messages may be for others. They are left out
        by their types, before anything else of them is read. What is left out here, :meth:`route` leaves out too.
        """
        if is_command_topic(topic):
            return True
        try:
            message_type = self._decoder.type_of(payload)
        except Undecodable:
            return True
        return message_type is not None and bool(self._handlers.for_message(message_type))

    def _route_again(self, rows: Sequence[Deferral]) -> Work:
        """Route deferred messages; one that was parked as unprocessable may have its handlers now."""
        due: list[tuple[str, Delivery]] = []
        unprocessable: list[Unprocessable] = []
        unwanted: list[Deferral] = []
        for row in rows:
            try:
                found = self._find_handlers(row.raw)
                wanted = [(name, message) for name, message in found if row.handler in (name, UNPROCESSABLE)]
                check_handler_exists(self._service, row, wanted)
            except (Undecodable, Undeliverable) as error:
                unprocessable.append(Unprocessable(raw=row.raw, reason=str(error), detail=error.detail, row=row))
                continue
            due.extend((name, Delivery.of(row, message)) for name, message in wanted)
            if not wanted:
                unwanted.append(row)
        return Work(due=due, unprocessable=unprocessable, unwanted=unwanted)

    def _find_handlers(self, raw: RawMessage) -> list[tuple[str, Message]]:
        """Return the decoded message by handler name. Raises Undecodable, or Undeliverable where a rule is broken.

        1. By its type alone, most messages have no handler here and are not decoded.
        2. A decoded message has the handlers of its saga. An event of every saga may be of one that is for others.
        """
        # 1.
        message_type = self._decoder.type_of(raw.value)
        names = () if message_type is None else self._handlers.for_message(message_type)
        if message_type is None or not names:
            check_command_is_handled(self._service, raw, message_type)
            return []
        check_topic(raw, message_type, self._commands)
        check_headers(raw)
        # 2.
        message = self._decoder.decode(raw.value)
        check_ids(message)
        check_key(raw, message)
        if isinstance(message, OF_EVERY_SAGA) and message.saga_type not in self._saga_types:
            return []
        check_saga(raw, message, self._sagas)
        return [(name, message) for name in self._handlers.handling(message)]


# The rules. The negative controls of the simulation (proof.controls) take out one of the first five at a time.


def check_command_is_handled(service: str, raw: RawMessage, message_type: type[Message] | None) -> None:
    """Refuse a command that has no handler here: its sender waits for a reply. An event may be for others alone."""
    if raw.is_command:
        what = "message of that type" if message_type is None else message_type.FULL_NAME
        raise Undeliverable(f"{service} handles no {what}; look at the contract for whom it is meant.")


def check_topic(raw: RawMessage, message_type: type[Message], commands: Collection[type[Message]]) -> None:
    """Refuse a command among events and an event among commands: the ACLs let others write there."""
    if raw.is_command != (message_type in commands):
        raise Undeliverable(f"{message_type.FULL_NAME} came on {raw.topic}, where it does not belong.")


def check_ids(message: Message) -> None:
    """Refuse ids that a path, a log and an index cannot hold."""
    if not (ID.fullmatch(message.saga_id) and ID.fullmatch(message.message_id)):
        ids = f"{message.saga_id!r} and {message.message_id!r}"
        raise Undeliverable("Its saga id or its message id is not an id of ours; ids are ULIDs.", ids)


def check_key(raw: RawMessage, message: Message) -> None:
    """Refuse another key than the saga id: the saga's order, its partition and its dead letters hang on the key."""
    if raw.key != message.saga_id.encode():
        raise Undeliverable("The key is not the saga id; publish with the saga id as the key.", message.saga_id)


def check_saga(raw: RawMessage, message: Message, sagas: Collection[tuple[str, int]]) -> None:
    """Refuse an event of a saga that this release lacks: the tracker does not follow it, and would never undo a step.

    ``sagas`` are those that the service takes part in. A command passes: its sender knows the saga.
    """
    if not raw.is_command and (message.saga_type, message.saga_version) not in sagas:
        saga = f"{message.saga_type!r} version {message.saga_version}"
        raise Undeliverable("Its saga is none of this release; run the release that has it, and redrive.", saga)


def check_headers(raw: RawMessage) -> None:
    """Refuse a message whose headers cannot be read: its producer is none of ours. A redrive handles it without them.

    The detail is where the headers are still to be found.
    """
    if raw.headers_flaw:
        original = f"The original is at offset {raw.offset} of {raw.topic}, partition {raw.partition}."
        raise Undeliverable(raw.headers_flaw, original)


def check_handler_exists(service: str, row: Deferral, wanted: Collection[object]) -> None:
    """Refuse a deferred message whose handler an upgrade has removed."""
    if not wanted and row.handler != UNPROCESSABLE:
        raise Undeliverable(f"{service} has no handler {row.handler} any more.")
