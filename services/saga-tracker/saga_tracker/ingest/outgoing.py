"""Turns a decision into messages: the commands and the last event that were not sent before. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from chassis.wire.envelope import derived_id
from messages.contract import Envelope, Message
from messages.saga import FenceSaga, OperatorActed, RedriveStep
from saga_tracker.ingest.tracked_saga import TrackedSaga
from saga_tracker.model.decision import REDRIVE, Command, Decision, Phase
from saga_tracker.model.saga import SagaDefinition
from saga_tracker.store.sagas import SagaRow

END = "end"
END_TOPIC = "saga.events"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """One message to send, its topic, and what its timeline entry shows."""

    message: Message
    topic: str
    kind: str
    step: str | None
    attempt: int | None


def outgoing_messages(saga: TrackedSaga, decision: Decision, *, now: datetime) -> Iterator[OutgoingMessage]:
    """Yield the messages that the decision requires and that the row has not issued yet; mark them in the row.

    Every id is derived from the saga, the command and its attempt, so a decision made twice sends the same message.
    """
    row, definition = saga.row, saga.definition
    for command in decision.commands:
        if row.issued.get(command.key, 0) < command.attempt:
            row.issued[command.key] = command.attempt
            message_id = derived_id(row.saga_id, command.key, command.attempt)
            envelope = _envelope(row, message_id, saga.cause, now)
            yield _command(definition, command, _reason_of(row, decision), envelope)
    if decision.phase is Phase.ENDED and END not in row.issued:
        row.issued[END] = 1
        yield _end(definition, row, decision, _envelope(row, derived_id(row.saga_id, END), saga.cause, now))


def redrive_of_unknown_step(
    row: SagaRow, service: str, number: int, act: OperatorActed, now: datetime
) -> OutgoingMessage:
    """Return the command that makes a service retry its parked messages of no known step. No reply is awaited."""
    message_id = derived_id(row.saga_id, REDRIVE, service, number)
    message = RedriveStep(
        **_envelope(row, message_id, act.message_id, now),
        step="",
        attempt=number,
        reason=f"{act.actor}: {act.reason}",
    )
    return OutgoingMessage(message=message, topic=f"{service}.commands", kind="command", step=None, attempt=number)


def _command(definition: SagaDefinition, command: Command, reason: str, envelope: Envelope) -> OutgoingMessage:
    message: Message
    if command.step is None:
        message = FenceSaga(
            **envelope, steps=definition.fenced_steps_of(command.service), attempt=command.attempt, reason=reason
        )
    elif command.redrive is not None:
        message = RedriveStep(**envelope, step=command.step, attempt=command.redrive, reason=reason)
    else:
        compensation = next(step.compensation for step in definition.steps if step.name == command.step)
        assert compensation is not None, "only a step that has a compensation is compensated"
        message = compensation.command.from_record(
            {**envelope, "step": command.step, "attempt": command.attempt, "reason": reason}
        )
    return OutgoingMessage(
        message=message,
        topic=f"{command.service}.commands",
        kind="command",
        step=command.step,
        attempt=command.attempt,
    )


def _reason_of(row: SagaRow, decision: Decision) -> str:
    """Return the reason that a command carries: why the saga is compensated or parked, or who redrives it and why."""
    if decision.reason is None and row.progress.redriven_by is not None:
        _, by, reason = row.progress.redriven_by
        return f"{by}: {reason}"
    return decision.reason or ""


def _end(definition: SagaDefinition, row: SagaRow, decision: Decision, envelope: Envelope) -> OutgoingMessage:
    message: Message
    if decision.failure is None:
        message = definition.completed_by.from_record({**envelope, "started_at": row.started_at})
    else:
        failure = decision.failure
        message = definition.failed_by.from_record(
            {
                **envelope,
                "started_at": row.started_at,
                "cause": failure.cause.value,
                "step": failure.step,
                "reason": failure.reason,
            }
        )
    return OutgoingMessage(message=message, topic=END_TOPIC, kind="event", step=None, attempt=None)


def _envelope(row: SagaRow, message_id: str, causation_id: str | None, now: datetime) -> Envelope:
    return Envelope(
        message_id=message_id,
        saga_id=row.saga_id,
        saga_type=row.saga_type,
        saga_version=row.saga_version,
        causation_id=causation_id,
        occurred_at=now,
    )
