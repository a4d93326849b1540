"""A tracker whose peers the tests play, with the console in front of it: sagas of every kind, made on purpose."""

from __future__ import annotations

from dataclasses import dataclass, replace

from chassis.wire.envelope import new_id
from messages.contract import Message
from messages.saga import FenceSaga, SagaFenced
from support.consoles import ConsoleAddress
from support.tracker_peers import ORDER, TrackerPeers, fence_replies, message, successes, until


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A tracker whose peers the tests play, and the console in front of it."""

    wire: TrackerPeers
    console: ConsoleAddress

    def begun(self, *, up_to: int = 1) -> str:
        """Begin an order whose first steps run, and return its id."""
        saga_id = new_id()
        self.wire.publish(*caused(successes(saga_id, up_to=up_to)))
        self.wire.becomes(saga_id, "PENDING")
        return saga_id

    def compensated(self) -> str:
        """Let the fourth step of an order be refused, undo the others, and return its id."""
        saga_id, ran = new_id(), 3
        refusal = ORDER.steps[ran].rejected_with
        assert refusal is not None
        ran_before = successes(saga_id, up_to=ran)
        self.wire.publish(*caused([*ran_before, message(refusal, saga_id)]))
        answered: set[str] = set()

        def is_undone() -> bool:
            for command in self.wire.outgoing(saga_id):
                if command.message_id not in answered:
                    answered.add(command.message_id)
                    self.wire.publish(*self._replies(command, ran))
            row = self.wire.saga(saga_id)
            return row is not None and row.state == "CANCELLED_COMPENSATED"

        until(is_undone, f"{saga_id} is undone")
        return saga_id

    def _replies(self, command: Message, ran: int) -> list[Message]:
        if isinstance(command, FenceSaga):
            service = next(step.service for step in ORDER.steps if step.name in command.steps)
            replies = fence_replies(command.saga_id, *(step.name for step in ORDER.steps[:ran]))
            own = [each for each in replies if isinstance(each, SagaFenced) and each.service == service]
            return [replace(each, causation_id=command.message_id) for each in own]
        undone = [(step.name, step.compensation) for step in ORDER.steps if step.compensation is not None]
        found = [
            message(each.reply, command.saga_id, step=name)
            for name, each in undone
            if isinstance(command, each.command)
        ]
        return [replace(each, causation_id=command.message_id) for each in found]


def caused(messages: list[Message]) -> list[Message]:
    """Return the messages, each caused by the one before it."""
    found: list[Message] = []
    for each in messages:
        found.append(replace(each, causation_id=found[-1].message_id) if found else each)
    return found
