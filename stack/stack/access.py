"""Kafka's logins and access lists, made to say what the contract says: what is missing is added, the rest removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # exported, but not in the stubs' way
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stack.contract import KafkaRights
from stack.errors import ComponentFailed

TIMEOUT_S = 30.0
ITERATIONS = 4096
"""Kafka's least. Passwords are random and 32 characters long, so that guessing is hopeless without more."""
ANY_HOST = "*"


def admit(admin: AdminClient, passwords: Mapping[str, str]) -> None:
    """Make these users, or set their passwords again: their files are the truth. Connections that there are stay."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes: list[Any] = [
        UserScramCredentialUpsertion(user, info, password.encode()) for user, password in passwords.items()
    ]
    _finish(admin.alter_user_scram_credentials(changes).values(), "take the logins")


def grant(admin: AdminClient, rights: Mapping[str, KafkaRights]) -> None:
    """Let every login do what its rights say, and no login anything else."""
    whatever: Any = None
    everything = AclBindingFilter(
        ResourceType.ANY, whatever, ResourcePatternType.ANY, whatever, whatever, AclOperation.ANY, AclPermissionType.ANY
    )
    existing = set(admin.describe_acls(everything).result(TIMEOUT_S))
    wanted = {binding for user, own in rights.items() for binding in bindings(user, own)}
    if missing := wanted - existing:
        _finish(admin.create_acls(list(missing)).values(), "take the access lists")
    if surplus := existing - wanted:
        _finish(admin.delete_acls([_filter(each) for each in surplus]).values(), "take away old rights")


def bindings(user: str, rights: KafkaRights) -> Iterator[AclBinding]:
    """Yield a login's access list; who may write or read a topic may also ask where its partitions are."""
    yield from _allow(user, ResourceType.TOPIC, rights.reads, AclOperation.READ)
    yield from _allow(user, ResourceType.TOPIC, rights.writes, AclOperation.WRITE)
    yield from _allow(user, ResourceType.GROUP, rights.joins, AclOperation.READ)
    yield from _allow(user, ResourceType.GROUP, rights.watches, AclOperation.DESCRIBE)


def _allow(user: str, kind: ResourceType, names: Iterable[str], operation: AclOperation) -> Iterator[AclBinding]:
    for name in names:
        yield AclBinding(
            kind, name, ResourcePatternType.LITERAL, f"User:{user}", ANY_HOST, operation, AclPermissionType.ALLOW
        )


def _filter(binding: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        binding.restype, binding.name, binding.resource_pattern_type, binding.principal, binding.host,
        binding.operation, binding.permission_type,
    )  # fmt: skip


def _finish(asked: Iterable[Future[Any]], what: str) -> None:
    for future in asked:
        try:
            future.result(TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise ComponentFailed(f"Kafka did not {what} ({error}); see 'baraza status'.") from error
