"""Kafka's users and access lists, brought in line with the contract: missing ones are added, all others removed."""

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
"""Kafka's minimum. Passwords are random and 32 characters long, so a guess is hopeless without more."""
ANY_HOST = "*"


def upsert_users(admin: AdminClient, passwords: Mapping[str, str]) -> None:
    """Create these users, or set their passwords again: the password files are authoritative. Open connections stay."""
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
    changes: list[Any] = [
        UserScramCredentialUpsertion(user, info, password.encode()) for user, password in passwords.items()
    ]
    _finish(admin.alter_user_scram_credentials(changes).values(), "create the users")


def set_acls(admin: AdminClient, rights: Mapping[str, KafkaRights]) -> None:
    """Give every login exactly its rights."""
    any_name: Any = None
    everything = AclBindingFilter(
        ResourceType.ANY, any_name, ResourcePatternType.ANY, any_name, any_name, AclOperation.ANY, AclPermissionType.ANY
    )
    existing = set(admin.describe_acls(everything).result(TIMEOUT_S))
    wanted = {binding for user, own in rights.items() for binding in bindings(user, own)}
    if missing := wanted - existing:
        _finish(admin.create_acls(list(missing)).values(), "create the access lists")
    if surplus := existing - wanted:
        _finish(admin.delete_acls([_filter(each) for each in surplus]).values(), "remove old access lists")


def bindings(user: str, rights: KafkaRights) -> Iterator[AclBinding]:
    """Yield a login's access list. The right to write or read a topic includes its description."""
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


def _finish(requests: Iterable[Future[Any]], what: str) -> None:
    for future in requests:
        try:
            future.result(TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            raise ComponentFailed(f"Kafka did not {what} ({error}); see 'baraza status'.") from error
