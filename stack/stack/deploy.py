"""What must exist before a service starts: topics, schemas, tables. Each step is idempotent."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in the stubs' way
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic
from confluent_kafka.schema_registry import SchemaRegistryClient

from chassis.saga import publisher
from chassis.wire.registry import Subject
from stack.errors import ComponentFailed, InvalidSettings
from stack.registering import IncompatibleSchema, register

REGISTRY_TIMEOUT_S = 10.0
"""Of one request, which the client repeats; without it the client waits for ever for an answer that was lost."""
TOPICS_TIMEOUT_S = 30.0
MIGRATION_TIMEOUT_S = 300
NO_COPIES = 1
DEAD_LETTERS = ".dlq"
"""The end of every dead-letter topic's name."""
DEAD_LETTER_BYTES_MAX = publisher.MESSAGE_BYTES_MAX
"""The producers' own limit, so that a well compressed message which its topic accepted also fits here."""


def create_topics(admin: AdminClient, topics: Iterable[str], partitions: int) -> None:
    """Create the missing topics, and give the others their settings, which an earlier release may have chosen.

    Raises InvalidSettings where one has another number of partitions. A saga is one partition number on every topic, so
    one topic with another count would split sagas.
    """
    wanted = tuple(topics)
    existing = admin.list_topics(timeout=TOPICS_TIMEOUT_S).topics
    for name in wanted:
        if name in existing and (count := len(existing[name].partitions)) != partitions:
            raise InvalidSettings(
                f"Topic {name} has {count} partitions and {partitions} are wanted; keep {count}, or use another --home."
            )
    _configure(admin, [name for name in wanted if name in existing])
    _create(admin, [name for name in wanted if name not in existing], partitions)


def _create(admin: AdminClient, names: Iterable[str], partitions: int) -> None:
    missing = list(names)
    if not missing:
        return
    created = admin.create_topics(
        [
            NewTopic(name, partitions, NO_COPIES, config={key: str(value) for key, value in settings_of(name).items()})
            for name in missing
        ]
    )
    for name, future in created.items():
        try:
            future.result(TOPICS_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ComponentFailed(
                    f"Kafka did not create the topic {name} ({error}); see 'baraza status'."
                ) from error


def _configure(admin: AdminClient, names: Iterable[str]) -> None:
    """Replace the settings of existing topics by :func:`settings_of`; Kafka keeps all others."""
    resources = [
        ConfigResource(
            ResourceType.TOPIC, name, incremental_configs=[
                ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET)
                for key, value in settings.items()
            ],
        )
        for name in names if (settings := settings_of(name))
    ]  # fmt: skip
    if not resources:
        return
    for resource, future in admin.incremental_alter_configs(resources).items():
        try:
            future.result(TOPICS_TIMEOUT_S)
        except KafkaException as error:
            raise ComponentFailed(
                f"Kafka did not change the topic {resource.name} ({error}); see 'baraza status'."
            ) from error


def settings_of(topic: str) -> Mapping[str, int]:
    """Return a topic's own settings, in every deployment: a dead letter holds more than any other message."""
    return {"max.message.bytes": DEAD_LETTER_BYTES_MAX} if topic.endswith(DEAD_LETTERS) else {}


def register_schemas(options: Mapping[str, str], subjects: Iterable[Subject]) -> None:
    """Register every message's schema under its compatibility level. Raises ComponentFailed for an incompatible one."""
    with SchemaRegistryClient({**options, "timeout": REGISTRY_TIMEOUT_S}) as client:
        for subject in subjects:
            try:
                register(client, subject)
            except IncompatibleSchema as error:
                raise ComponentFailed(str(error)) from error


def migrate(package: str, environment: Mapping[str, str], log: Path) -> None:
    """Run a package's migrations on the database in ``environment``, as its owner. Raises ComponentFailed."""
    command = (sys.executable, "-P", "-m", "chassis.postgres.migrate", package)
    with log.open("w") as output:
        try:
            subprocess.run(
                command, check=True, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                timeout=MIGRATION_TIMEOUT_S, env=dict(environment), cwd="/",
            )  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            tail = "\n".join(log.read_text(errors="replace").rstrip().splitlines()[-5:])
            raise ComponentFailed(f"The migration of {package} failed; its log, {log}, ends:\n{tail}") from error


def digest_of_subjects(subjects: Iterable[Subject]) -> str:
    """Return a digest of all schemas, subjects and compatibility levels."""
    lines = (f"{subject.name} {subject.compatibility} {subject.message_type.SCHEMA}" for subject in subjects)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of_migrations(folder: Path) -> str:
    """Return a digest of all revisions in ``folder``."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
