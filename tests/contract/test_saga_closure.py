"""A saga's definition and the services' handlers agree, in both directions."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from bench_providers import SUBSTITUTES
from chassis.process.service import consumed_topics, emitted
from chassis.saga.handlers import Handlers
from chassis.saga.steps import AnyCompensation, AnyStep
from chassis.saga.triggers import AnySagaTrigger
from messages.catalogue import MESSAGES
from messages.contract import Message
from messages.saga import FenceSaga, RedriveStep, SagaFenced, StepRedriven
from messages.standalone import STANDALONE
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.ingest.decoding import topics as tracked_topics
from saga_tracker.model.saga import SagaDefinition, StepDefinition
from stack import contract
from support.services import built, handlers

SERVICES = handlers()
SAGAS = list(DEFINITIONS.values())
STEPS = [(definition, step) for definition in SAGAS for step in definition.steps]
each_saga = pytest.mark.parametrize("definition", SAGAS, ids=lambda saga: f"{saga.name}-{saga.version}")
each_step = pytest.mark.parametrize(
    ("definition", "step"), STEPS, ids=[f"{saga.name}-{step.name}" for saga, step in STEPS]
)


def owners_of(step_name: str) -> dict[str, AnyStep]:
    """Return the services that declare a step of this name, with the step."""
    found = {service: own.step(step_name) for service, own in SERVICES.items()}
    return {service: step for service, step in found.items() if step is not None}


def triggers_in(definition: SagaDefinition, step: AnyStep) -> list[AnySagaTrigger]:
    """Return the triggers of a step in one version of a saga."""
    return [each for each in step.triggers if each.saga == definition.name and definition.version in each.versions]


@each_step
def test_a_step_is_declared_by_the_service_that_the_definition_names_and_no_other(
    definition: SagaDefinition, step: StepDefinition
) -> None:
    assert list(owners_of(step.name)) == [step.service]


@each_step
def test_a_step_agrees_with_its_definition(definition: SagaDefinition, step: StepDefinition) -> None:
    declared = owners_of(step.name)[step.service]
    (trigger,) = triggers_in(definition, declared)
    assert trigger.on is step.trigger
    assert trigger.succeeds_with is step.succeeds_with
    assert trigger.rejected_with is step.rejected_with
    assert declared.retry == step.retry


@each_step
def test_a_compensation_agrees_with_its_definition(definition: SagaDefinition, step: StepDefinition) -> None:
    declared = owners_of(step.name)[step.service].compensation
    if step.compensation is None:  # another saga may undo the same step
        undoing = {each.compensation.command for _, each in STEPS if each.name == step.name and each.compensation}
        assert declared is None or declared.on in undoing
        return
    undone = {each.name for each in definition.steps if step.name in (each.name, each.undone_by)}
    assert declared is not None
    assert declared.on is step.compensation.command
    assert declared.replies == (step.compensation.reply,)
    assert set(declared.undoes) == undone


@pytest.mark.parametrize("service", SUBSTITUTES)
def test_a_service_with_its_provider_inside_serves_the_same_steps_and_reacts_to_the_same(service: str) -> None:
    def declared(own: Handlers) -> dict[str, object]:
        return {
            step.name: (
                *(step.triggers, step.retry),
                step.compensation and (step.compensation.on, step.compensation.undoes, step.compensation.replies),
            )
            for step in own.steps
        }

    inside = Handlers.of(built(service, package=SUBSTITUTES[service]).handlers)
    assert declared(inside) == declared(SERVICES[service])
    assert (inside.events, inside.commands, inside.sagas) == (
        SERVICES[service].events,
        SERVICES[service].commands,
        SERVICES[service].sagas,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_takes_part_in_exactly_the_sagas_whose_definitions_name_it(service: str) -> None:
    served = {(each.name, each.version) for each in SAGAS if service in each.participants}
    assert set(SERVICES[service].sagas) == served


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_declares_no_step_that_no_definition_has(service: str) -> None:
    known = {name for definition in DEFINITIONS.values() for name in definition.steps_of(service)}
    assert {step.name for step in SERVICES[service].steps} <= known


@each_step
def test_every_trigger_is_emitted_by_some_service(definition: SagaDefinition, step: StepDefinition) -> None:
    emitters = [service for service, own in SERVICES.items() if step.trigger in emitted(own)]
    assert emitters == [step.trigger.OWNER] or step.trigger is definition.started_by
    assert step.trigger.OWNER in SERVICES


def test_every_command_is_handled_by_exactly_the_service_that_owns_it() -> None:
    compensations: list[tuple[str, AnyCompensation]] = [
        (service, each) for service, own in SERVICES.items() for each in own.compensations
    ]
    commands = {step.compensation.command for _, step in STEPS if step.compensation}
    count = Counter(compensation.on for _, compensation in compensations)
    assert count == Counter(commands), "each command has one handler, and each handler a command"
    assert {compensation.on: service for service, compensation in compensations} == {
        command: command.OWNER for command in commands
    }


@each_saga
def test_every_service_of_a_saga_can_be_fenced(definition: SagaDefinition) -> None:
    for service in definition.services:
        assert FenceSaga in SERVICES[service].commands
        assert SagaFenced in emitted(SERVICES[service])


@each_saga
def test_every_service_that_reads_a_saga_can_be_redriven(definition: SagaDefinition) -> None:
    for service in definition.participants:
        assert RedriveStep in SERVICES[service].commands
        assert StepRedriven in emitted(SERVICES[service])


@each_saga
def test_the_events_of_a_saga_trigger_its_own_steps_and_no_others(definition: SagaDefinition) -> None:
    events = {definition.started_by, *(step.succeeds_with for step in definition.steps)}
    followers = {
        step.name
        for own in SERVICES.values()
        for step in own.steps
        if any(trigger.on in events for trigger in triggers_in(definition, step))
    }
    assert followers == {step.name for step in definition.steps}, (
        f"The events of {definition.name} version {definition.version} trigger other steps than its own. Give its "
        f"services triggers for that version; docs/adding-a-step.md has an example."
    )


@each_saga
def test_a_service_that_handles_an_event_of_a_saga_takes_part_in_it(definition: SagaDefinition) -> None:
    """It would dead-letter the event. Where a service has nothing to do with it, the saga needs an event of its own."""
    steps = definition.steps
    events = {definition.started_by, *(step.succeeds_with for step in steps), *(step.rejected_with for step in steps)}
    for service, own in SERVICES.items():
        if own.events & events:
            assert (definition.name, definition.version) in own.sagas, service


@each_saga
def test_the_service_that_starts_a_saga_handles_its_end(definition: SagaDefinition) -> None:
    starter = SERVICES[definition.started_by.OWNER]
    assert {definition.completed_by, definition.failed_by} <= starter.events


@each_saga
def test_a_service_reacts_to_exactly_the_events_of_steps_that_the_definition_names(definition: SagaDefinition) -> None:
    """Those that it lists are others' than the starter's, which has the saga's end anyway."""
    ends = {definition.started_by, definition.completed_by, definition.failed_by}
    events = {event for step in definition.steps for event in (step.succeeds_with, step.rejected_with)} | ends
    key = (definition.name, definition.version)
    reacting = {
        (reaction.on, service)
        for service, own in SERVICES.items()
        for reaction in own.reactions
        if key in reaction.sagas
        and reaction.on in events
        # A service that starts a saga may read its own beginning after its database was restored.
        and not (reaction.on in ends and service == definition.started_by.OWNER)
    }
    assert reacting == {(event, service) for event, own in definition.reactions.items() for service in own}


def test_everything_that_is_emitted_is_registered_for_its_topic() -> None:
    registered = {(subject.topic, subject.message_type) for subject in contract.subjects()}
    for service, own in SERVICES.items():
        for message_type in emitted(own):
            assert (f"{service}.events", message_type) in registered
    for definition in SAGAS:
        for step in definition.steps:
            if step.compensation:
                assert (f"{step.service}.commands", step.compensation.command) in registered
        for service in definition.services:
            assert (f"{service}.commands", FenceSaga) in registered
        for message_type in (definition.started_by, *definition.cancelled_by):
            assert (f"{message_type.OWNER}.events", message_type) in registered
        for message_type in (definition.completed_by, definition.failed_by):
            assert ("saga.events", message_type) in registered


def test_every_message_belongs_to_some_saga_or_stands_alone() -> None:
    assert {subject.message_type for subject in contract.subjects()} == set(MESSAGES.values())


@pytest.mark.parametrize("message_type", MESSAGES.values(), ids=MESSAGES)
def test_every_message_has_a_schema_with_the_envelope(message_type: type[Message]) -> None:
    schema = json.loads(message_type.SCHEMA)
    assert f"{schema['namespace']}.{schema['name']}" == message_type.FULL_NAME
    assert schema["doc"], "a message has a description"
    fields = {field["name"]: field["type"] for field in schema["fields"]}
    assert fields["saga_id"] == "string"
    assert fields["causation_id"] == ["null", "string"]


@pytest.mark.parametrize("service", SERVICES)
def test_every_topic_that_a_service_reads_or_writes_exists(service: str) -> None:
    own = SERVICES[service]
    written = {f"{service}.events", f"{service}.dlq", *(f"{step.name}.dlq" for step in own.steps)}
    assert written | set(consumed_topics(service, own)) <= set(contract.topics())


def test_the_tracker_reads_every_event_every_request_and_every_dead_letter() -> None:
    read = set(tracked_topics(DEFINITIONS))
    assert read <= set(contract.topics())
    unread = set(contract.topics()) - read
    assert unread == {topic for topic in contract.topics() if topic.endswith(".commands")} - {"saga.commands"} | {
        "saga.events",
        *STANDALONE,
    }


def test_a_login_has_exactly_the_rights_on_kafka_that_its_process_needs() -> None:
    rights = contract.kafka_rights()
    for service, own in SERVICES.items():
        letters = {f"{service}.dlq", *(f"{step.name}.dlq" for step in own.steps)}
        # It reads its own events after its database was restored.
        own_events = {f"{service}.events"} if own.steps else set()
        assert set(rights[service].reads) == {*consumed_topics(service, own), *own_events}
        alone = {topic for topic, message_type in STANDALONE.items() if service == message_type.OWNER}
        assert set(rights[service].writes) == {f"{service}.events", *letters, *alone}
        assert rights[service].joins == (service,)
    # It reads what it has sent itself when its database is rebuilt.
    sent = {topic for topic in contract.topics() if topic.endswith(".commands")} | {contract.SAGA_EVENTS}
    assert set(rights[contract.TRACKER].reads) == set(tracked_topics(DEFINITIONS)) | sent


def test_only_the_tracker_writes_commands_and_analytics_only_reads_events() -> None:
    rights = contract.kafka_rights()
    writers = {topic: {login for login, own in rights.items() if topic in own.writes} for topic in contract.topics()}
    commands = {topic for topic in writers if topic.endswith(".commands")}
    assert {topic: writers[topic] for topic in commands} == {
        topic: {contract.TRACKER_API if topic == contract.SAGA_COMMANDS else contract.TRACKER} for topic in commands
    }
    assert all(len(who) == 1 for topic, who in writers.items()), writers
    analytics = rights[contract.ANALYTICS]
    assert (analytics.writes, {topic.rpartition(".")[2] for topic in analytics.reads}) == (
        (),
        {"events", "days", "divergences"},
    )


def test_a_service_with_steps_in_other_sagas_is_no_starter() -> None:
    """The ledger starts manual postings, but orders wait for it: chaos and priorities treat it like the others."""
    assert contract.starters() == ("checkout", "merchant")
    assert "ledger" in contract.services()
