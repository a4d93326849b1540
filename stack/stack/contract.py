"""Which topics, subjects and services there are, derived from the definitions: nothing here knows a saga by name."""

from __future__ import annotations

from collections.abc import Iterator

from messages.contract import Message
from messages.saga import CancelSaga, FenceSaga, RedriveStep, SagaFenced, StepRedriven
from messaging.registry import Subject
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.saga import SagaDefinition

TRACKER = "saga-tracker"
SAGA_EVENTS = "saga.events"
SAGA_COMMANDS = "saga.commands"


def services() -> tuple[str, ...]:
    """Return the services that take part in a saga, those that start one first; the tracker is not among them."""
    starters = [definition.started_by.OWNER for definition in DEFINITIONS.values()]
    steps = [service for definition in DEFINITIONS.values() for service in definition.services]
    return tuple(dict.fromkeys([*starters, *steps]))


def package_of(service: str) -> str:
    """Return the Python package of a service, which is also the name of its database and of its runtime login."""
    return service.replace("-", "_")


def topics() -> tuple[str, ...]:
    """Return every topic, each once."""
    found = [
        topic
        for definition in DEFINITIONS.values()
        for topics_of in (definition.event_topics, definition.command_topics, definition.dead_letter_topics)
        for topic in topics_of
    ]
    return tuple(dict.fromkeys([*found, SAGA_EVENTS, SAGA_COMMANDS, f"{TRACKER}.dlq"]))


def subjects() -> tuple[Subject, ...]:
    """Return every message type on every topic that carries it, each once, sorted by name."""
    found = {subject.name: subject for definition in DEFINITIONS.values() for subject in _subjects(definition)}
    return tuple(found[name] for name in sorted(found))


def _subjects(definition: SagaDefinition) -> Iterator[Subject]:
    for event in (definition.started_by, *definition.cancelled_by):
        yield _event(event)
    for step in definition.steps:
        yield _event(step.succeeds_with)
        if step.rejected_with is not None:
            yield _event(step.rejected_with)
        if step.compensation is not None:
            yield _event(step.compensation.reply)
            yield Subject(topic=f"{step.service}.commands", message_type=step.compensation.command)
    for service in definition.services:
        yield Subject(topic=f"{service}.commands", message_type=FenceSaga)
        yield Subject(topic=f"{service}.events", message_type=SagaFenced)
    for service in definition.participants:
        yield Subject(topic=f"{service}.commands", message_type=RedriveStep)
        yield Subject(topic=f"{service}.events", message_type=StepRedriven)
    for outcome in (definition.completed_by, definition.failed_by):
        yield Subject(topic=SAGA_EVENTS, message_type=outcome)
    yield Subject(topic=SAGA_COMMANDS, message_type=CancelSaga)


def _event(message_type: type[Message]) -> Subject:
    return Subject(topic=f"{message_type.OWNER}.events", message_type=message_type)
