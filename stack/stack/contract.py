"""The topics, subjects, services and logins, derived from the sagas' definitions.

Nothing here knows a saga by name. This is the only place that grants rights: the stack's access lists and the cluster's
users are made from it, and everything that is not granted is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from chassis.wire.registry import Subject
from messages.contract import Message
from messages.saga import (
    CancellationDecided,
    CancelSaga,
    DeadlinePassed,
    FenceSaga,
    OperatorActed,
    RedriveStep,
    SagaFenced,
    StepAwaited,
    StepContradicted,
    StepRedriven,
)
from messages.standalone import STANDALONE
from saga_tracker.definitions import DEFINITIONS
from saga_tracker.model.saga import DECISIONS_TOPIC, SagaDefinition

TRACKER = "saga-tracker"
SAGA_EVENTS = "saga.events"
SAGA_COMMANDS = "saga.commands"
SAGA_DECISIONS = DECISIONS_TOPIC
"""What the tracker decides, which it reads back before it acts on it."""
MERCHANT_EVENTS = "notification.events"
TRACKER_API = f"{TRACKER}-api"
CONSOLE = "console"
"""The pages for staff: sessions in Redis, a small database of its own, and no login at Kafka."""
DIVERGENCES = "reconciliation.divergences"
ACCOUNT_FIELD = "gateway_account"
"""The field in which an event names an account at a gateway."""
PHONE_FIELD = "phone"
"""The field in which an event names a person's phone."""
DEPLOY = "deploy"
"""Creates topics, logins and schemas. Only this login may do everything, and no serving process uses it."""
REGISTRY = "registry"
"""The schema registry's login, and its database."""
ANALYTICS, AUDIT, OPERATOR = "analytics", "audit", "operator"
"""The logins from outside: analytics over events, the audit, and operators who read messages on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRights:
    """The rights of one login on Kafka: the topics that it reads and writes, and the groups that it joins.

    ``watches`` are groups of others whose offsets it may read. Every name is a whole name, never a prefix.
    """

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()


class Use(StrEnum):
    """What a login may do in its databases."""

    OWN = "own"
    """Create and change tables: for migrations only, never for a serving process."""
    CHANGE = "change"
    """Read and change rows. It owns no table and can create none."""
    READ = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseRights:
    """The databases that one login may connect to (no others), and what it may do there."""

    databases: tuple[str, ...]
    use: Use


def services() -> tuple[str, ...]:
    """Return the services that take part in a saga, those that start one first; without the tracker."""
    found = [service for definition in DEFINITIONS.values() for service in definition.participants]
    return tuple(dict.fromkeys([*starters(), *found]))


def starters() -> tuple[str, ...]:
    """Return the services that start sagas for people, who wait for their answers, and have no step in others'."""
    owners = dict.fromkeys(definition.started_by.OWNER for definition in DEFINITIONS.values())
    return tuple(owner for owner in owners if owner != reconciler() and not _serves_others(owner))


def _serves_others(service: str) -> bool:
    """Return whether a service has a step in a saga that another one starts."""
    return any(service in saga.services for saga in DEFINITIONS.values() if service != saga.started_by.OWNER)


def reconciler() -> str:
    """Return the service that starts sagas by itself, from the reports that it reads; people wait for no answer."""
    return STANDALONE[DIVERGENCES].OWNER


def account_readers() -> tuple[str, ...]:
    """Return the services that know the accounts at gateways: they start sagas about one of them."""
    starts = [definition.started_by for definition in DEFINITIONS.values()]
    return tuple(dict.fromkeys(each.OWNER for each in starts if ACCOUNT_FIELD in {part.name for part in fields(each)}))


def account_callers() -> tuple[str, ...]:
    """Return the services that call those gateways. Intake only chooses an account."""
    return tuple(service for service in account_readers() if service not in starters())


def token_issuer() -> str:
    """Return the service that issues merchants' short tokens: the one that takes their requests about accounts."""
    return next(service for service in account_readers() if service in starters())


def phone_keepers() -> tuple[str, ...]:
    """Return the services that keep people's phones: they start sagas about one of them."""
    starts = [definition.started_by for definition in DEFINITIONS.values()]
    return tuple(dict.fromkeys(each.OWNER for each in starts if PHONE_FIELD in {part.name for part in fields(each)}))


def called_back() -> tuple[str, ...]:
    """Return the services with a step whose outcome comes later: their provider calls them back."""
    found = [step.service for saga in DEFINITIONS.values() for step in saga.steps if step.awaited is not None]
    return tuple(dict.fromkeys(found))


def webhook_sender() -> str:
    """Return the service that calls merchants' endpoints: the owner of the stream with the same events."""
    return STANDALONE[MERCHANT_EVENTS].OWNER


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
    return tuple(dict.fromkeys([*found, *STANDALONE, SAGA_EVENTS, SAGA_COMMANDS, SAGA_DECISIONS, f"{TRACKER}.dlq"]))


def kafka_rights() -> Mapping[str, KafkaRights]:
    """Return what each login may do on Kafka, by its name. :data:`DEPLOY`, which may do everything, is not included."""
    sagas = DEFINITIONS.values()
    every = topics()
    events = tuple(topic for topic in every if topic.endswith(".events"))
    dead_letters = tuple(topic for topic in every if topic.endswith(".dlq"))
    tracked = tuple(dict.fromkeys(topic for saga in sagas for topic in saga.event_topics))
    commands = tuple(dict.fromkeys(topic for saga in sagas for topic in saga.command_topics))
    return {
        **{service: _rights_of(service) for service in services()},
        TRACKER: KafkaRights(
            # From its own commands and last events a rebuilt database learns what was sent.
            reads=(*tracked, *dead_letters, SAGA_COMMANDS, SAGA_DECISIONS, *commands, SAGA_EVENTS),
            writes=(*commands, SAGA_EVENTS, SAGA_DECISIONS, f"{TRACKER}.dlq"),
            joins=(TRACKER,),
            watches=services(),
        ),
        TRACKER_API: KafkaRights(writes=(SAGA_COMMANDS,)),
        ANALYTICS: KafkaRights(reads=(*events, *STANDALONE), joins=(ANALYTICS,)),
        AUDIT: KafkaRights(reads=dead_letters, joins=(AUDIT,)),
        OPERATOR: KafkaRights(reads=every, joins=(OPERATOR,), watches=(*services(), TRACKER)),
    }


def saga_databases() -> tuple[str, ...]:
    """Return the databases that hold what sagas did: every service's with steps, and the tracker's."""
    return tuple(package_of(service) for service in (*services(), TRACKER))


def databases() -> tuple[str, ...]:
    """Return every database of ours: those with sagas, and the console's with saved views and reveals."""
    return (*saga_databases(), package_of(CONSOLE))


def database_rights() -> Mapping[str, DatabaseRights]:
    """Return what each login may do in PostgreSQL, by its name."""
    every = databases()
    return {
        **{owner_of(database): DatabaseRights(databases=(database,), use=Use.OWN) for database in every},
        **{database: DatabaseRights(databases=(database,), use=Use.CHANGE) for database in every},
        package_of(TRACKER_API): DatabaseRights(databases=(package_of(TRACKER),), use=Use.CHANGE),
        AUDIT: DatabaseRights(databases=saga_databases(), use=Use.READ),
        REGISTRY: DatabaseRights(databases=(REGISTRY,), use=Use.OWN),
    }


def owner_of(database: str) -> str:
    """Return the login that owns a service's database."""
    return f"{database}_owner"


def redis_keys() -> Mapping[str, str]:
    """Return the pattern of the Redis keys that each login may use: a service's own prefix only."""
    return {service: f"{service}:*" for service in (*services(), CONSOLE)}


def _rights_of(service: str) -> KafkaRights:
    reads: list[str] = []
    writes = [f"{service}.events", f"{service}.dlq"]
    writes += [topic for topic, message_type in STANDALONE.items() if service == message_type.OWNER]
    for saga in DEFINITIONS.values():
        own = [step for step in saga.steps if step.service == service]
        reads += [step.trigger_topic for step in own]
        # From its own events a restored database learns what it had decided.
        reads += [f"{service}.events"] if own else []
        writes += [step.dead_letter_topic for step in own]
        reads += [f"{event.OWNER}.events" for event, services in saga.reactions.items() if service in services]
        if service in saga.participants:
            reads.append(f"{service}.commands")
        if service == saga.started_by.OWNER:
            reads.append(SAGA_EVENTS)
    return KafkaRights(reads=tuple(dict.fromkeys(reads)), writes=tuple(dict.fromkeys(writes)), joins=(service,))


def subjects() -> tuple[Subject, ...]:
    """Return every message type on every topic that carries it, each once, sorted by name."""
    found = {subject.name: subject for definition in DEFINITIONS.values() for subject in _subjects(definition)}
    alone = [Subject(topic=topic, message_type=message_type) for topic, message_type in STANDALONE.items()]
    found |= {subject.name: subject for subject in alone}
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
        for message_type in (SagaFenced, StepAwaited, StepContradicted):
            yield Subject(topic=f"{service}.events", message_type=message_type)
    for service in definition.participants:
        yield Subject(topic=f"{service}.commands", message_type=RedriveStep)
        yield Subject(topic=f"{service}.events", message_type=StepRedriven)
    for outcome in (definition.completed_by, definition.failed_by):
        yield Subject(topic=SAGA_EVENTS, message_type=outcome)
    yield Subject(topic=SAGA_COMMANDS, message_type=CancelSaga)
    for decision in (DeadlinePassed, CancellationDecided, OperatorActed):
        yield Subject(topic=SAGA_DECISIONS, message_type=decision)


def _event(message_type: type[Message]) -> Subject:
    return Subject(topic=f"{message_type.OWNER}.events", message_type=message_type)
